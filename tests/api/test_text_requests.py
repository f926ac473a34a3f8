"""What `/tokenize`, `/detokenize` and `/v1/embeddings` take: texts under several names, and their bounds."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from infrs.api.embeddings.request import check_num_tokens, embedding_list, parse_embedding_request
from infrs.api.tokens.request import TokenizeChatRequest, TokenizeRequest, parse_tokenize_request
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
    assert asked.prompts_answer


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


def test_no_more_numbers_than_a_vector_has() -> None:
    for dimensions in (None, 1, 384):
        parse_embedding_request({"model": "m", "input": "a", "dimensions": dimensions}).check_dimensions(384)
    with pytest.raises(RequestError, match="385 are more than the 384") as refused:
        parse_embedding_request({"model": "m", "input": "a", "dimensions": 385}).check_dimensions(384)
    assert (refused.value.param, refused.value.code) == ("dimensions", "integer_above_max_value")


def test_no_more_tokens_than_a_request_may_have() -> None:
    check_num_tokens(300_000)
    with pytest.raises(RequestError, match="300001 tokens") as refused:
        check_num_tokens(300_001)
    assert (refused.value.param, refused.value.code) == ("input", "max_tokens_per_request")


@pytest.mark.parametrize("as_base64", [False, True])
def test_a_list_of_vectors(as_base64: bool) -> None:
    vectors = [np.array([1, 2], np.float32), np.array([3, 4], np.float32)]
    told = json.loads(embedding_list("m", vectors, 7, as_base64=as_base64))
    shown = [entry.pop("embedding") for entry in told["data"]]
    if as_base64:
        shown = [np.frombuffer(base64.b64decode(text), "<f4").tolist() for text in shown]
    assert shown == [[1, 2], [3, 4]]
    assert told == {
        "object": "list",
        "data": [{"object": "embedding", "index": index} for index in range(2)],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
