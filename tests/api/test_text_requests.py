"""What `/tokenize`, `/detokenize` and `/v1/embeddings` take: texts under several names, and their bounds."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from infrs.api.chat.convert import to_conversation
from infrs.api.embeddings.embed import check_dimensions, embedding_list, encode_texts
from infrs.api.embeddings.request import EmbeddingRequest, parse_embedding_request
from infrs.api.tokens.request import TokenizeChatRequest, TokenizeRequest, parse_tokenize_request
from infrs.bundle.manifest import EmbeddingManifest
from infrs.errors import RequestError

USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("fields", "text", "special"),
    [
        ({"prompt": "a"}, "a", True),
        ({"prompt": ""}, "", True),
        ({"content": "a"}, "a", False),
        ({"content": ""}, "", False),
        ({"prompt": "a", "add_special_tokens": False}, "a", False),
        ({"prompt": "a", "add_special": False}, "a", False),
        ({"content": "a", "add_special_tokens": True}, "a", True),
        ({"content": "a", "add_special": True, "add_special_tokens": True}, "a", True),
        ({"content": "a", "messages": None, "with_pieces": False, "parse_special": True}, "a", False),
    ],
    ids=str,
)
def test_a_text_under_either_name(fields: dict[str, Any], text: str, special: bool) -> None:
    asked = parse_tokenize_request(fields)
    assert isinstance(asked, TokenizeRequest)
    assert (asked.text, asked.special) == (text, special)


def test_a_conversation_to_tokenize() -> None:
    asked = parse_tokenize_request({"messages": [USER], "add_special_tokens": False})
    assert isinstance(asked, TokenizeChatRequest)
    assert to_conversation(asked).add_generation_prompt


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "prompt", "missing_required_parameter"),
        ({"messages": None}, "prompt", "missing_required_parameter"),
        ({"prompt": "a", "content": "b"}, "content", "invalid_value"),
        ({"prompt": "a", "add_special": True, "add_special_tokens": False}, "add_special", "invalid_value"),
        ({"prompt": "a", "with_pieces": True}, "with_pieces", "unsupported_parameter"),
        ({"prompt": "a", "parse_special": False}, "parse_special", "unsupported_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": [USER], "prompt": "a"}, "prompt", "unknown_parameter"),
        ({"messages": [USER], "add_special_tokens": True}, "add_special_tokens", "unsupported_parameter"),
    ],
    ids=str,
)
def test_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_tokenize_request(fields)
    assert (refused.value.param, refused.value.code) == (param, code)


def vectors_model(dimensions: int, max_tokens: int) -> Any:
    """A model that is only asked about its manifest and about the lengths of texts."""
    return SimpleNamespace(
        model_id="m",
        manifest=EmbeddingManifest.model_construct(
            dimensions=dimensions, vocab_size=9, normalized=False, context_length=max_tokens
        ),
        check_length=lambda ids, _: len(ids) <= max_tokens,
    )


def embedding_request(**fields: object) -> EmbeddingRequest:
    return parse_embedding_request({"model": "m", "input": "a", **fields})


def test_dimensions_above_those_of_the_model_are_refused() -> None:
    model = vectors_model(384, 1)
    for dimensions in (None, 1, 384):
        check_dimensions(model, embedding_request(dimensions=dimensions))
    with pytest.raises(RequestError, match="385 are more than the 384") as refused:
        check_dimensions(model, embedding_request(dimensions=385))
    assert (refused.value.param, refused.value.code) == ("dimensions", "integer_above_max_value")


def test_more_tokens_than_a_request_may_have_are_refused() -> None:
    model = vectors_model(2, 150_000)
    halves = [[1] * 150_000, [2] * 150_000]
    assert encode_texts(model, embedding_request(input=halves)) == halves
    with pytest.raises(RequestError, match="300001 tokens") as refused:
        encode_texts(model, embedding_request(input=[*halves, [3]]))
    assert (refused.value.param, refused.value.code) == ("input", "max_tokens_per_request")


@pytest.mark.parametrize("as_base64", [False, True])
def test_a_list_of_vectors(as_base64: bool) -> None:
    request = embedding_request(encoding_format="base64" if as_base64 else None)
    vectors = [np.array([1, 2], np.float32), np.array([3, 4], np.float32)]
    listed = json.loads(embedding_list(vectors_model(2, 1), request, vectors, 7))
    shown = [entry.pop("embedding") for entry in listed["data"]]
    if as_base64:
        shown = [np.frombuffer(base64.b64decode(text), "<f4").tolist() for text in shown]
    assert shown == [[1, 2], [3, 4]]
    assert listed == {
        "object": "list",
        "data": [{"object": "embedding", "index": index} for index in range(2)],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
