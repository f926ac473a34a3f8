"""The prompt and the length of the vectors of a request of `/v1/embeddings`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from infrs.api.embeddings.choose_prompt import choose_prompt
from infrs.api.embeddings.embed import check_dimensions, shortened
from infrs.api.embeddings.request import EmbeddingRequest, parse_embedding_request
from infrs.bundle.manifest import EmbeddingManifest, Source
from infrs.errors import RequestError

PROMPTS = {
    "query": "query: ",
    "passage": "passage: ",
    "Retrieval-document": "title: none | text: ",
    "Classification": "task: classification | query: ",
    "plain": "",
}


def request(**fields: Any) -> EmbeddingRequest:
    return parse_embedding_request({"model": "m", "input": "sea", **fields})


def manifest(**fields: Any) -> EmbeddingManifest:
    source = Source(kind="local", model_id="m", revision="main")
    return EmbeddingManifest.model_construct(source=source, dimensions=4, normalized=True, **fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "default: "),
        ({"prompt_name": "query"}, "query: "),
        ({"prompt_name": "plain"}, ""),
        ({"prompt": "Instruct: Find it\nQuery: "}, "Instruct: Find it\nQuery: "),
        ({"prompt": ""}, ""),
        ({"input_type": "query"}, "query: "),
        ({"input_type": "search_query"}, "query: "),
        ({"input_type": "document"}, "passage: "),
        ({"task": "retrieval.passage"}, "passage: "),
        ({"task": "RETRIEVAL_DOCUMENT"}, "title: none | text: "),
        ({"task": "classification"}, "task: classification | query: "),
        ({"input": [[1]]}, "default: "),  # not used: token ids are embedded unchanged
        ({"input": [[1]], "prompt_name": "plain"}, ""),
    ],
)
def test_prompt_of_a_request(fields: dict[str, Any], expected: str) -> None:
    assert choose_prompt(manifest(prompt="default: ", prompts=PROMPTS), request(**fields)) == expected


@pytest.mark.parametrize("fields", [{"input_type": "query"}, {"task": "retrieval.passage"}])
def test_model_without_prompts_embeds_queries_and_documents_alike(fields: dict[str, Any]) -> None:
    assert not choose_prompt(manifest(prompt="", prompts={}), request(**fields))


@pytest.mark.parametrize(
    ("fields", "prompts", "param", "message"),
    [
        ({"prompt_name": "Query"}, {"query": "q: "}, "prompt_name", "'Query'; its prompts are query, and `prompt`"),
        ({"prompt_name": "query"}, {}, "prompt_name", "it has no prompts"),
        ({"task": "separation"}, {"query": "q: "}, "task", "no prompt 'separation'"),
        ({"input_type": "image"}, {}, "input_type", "no prompt 'image'"),
        (
            {"input": [1, 2], "prompt_name": "query"},
            {"query": "q: "},
            "prompt_name",
            "token ids are embedded unchanged",
        ),
        ({"input": [1, 2], "prompt": "q: "}, {}, "prompt", "token ids are embedded unchanged"),
    ],
)
def test_prompt_that_cannot_be_is_refused(
    fields: dict[str, Any], prompts: dict[str, str], param: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        choose_prompt(manifest(prompt="", prompts=prompts), request(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt_name": "query", "prompt": "q: "}, "prompt"),
        ({"prompt_name": "query", "task": "query"}, "task"),
        ({"prompt_name": ""}, "prompt_name"),
        ({"prompt": "x" * 4097}, "prompt"),
        ({"input_type": 3}, "input_type"),
    ],
)
def test_contradicting_fields_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("shorter", "default", "asked", "length"),
    [
        (None, None, None, 4),
        (None, None, 3, 3),  # a model that declares nothing gives any length
        (None, 2, None, 2),
        (None, 2, 4, 4),
        ((2,), None, 2, 2),
        ((2,), None, 4, 4),
        ((), None, 4, 4),
    ],
)
def test_length_of_vectors(
    shorter: tuple[int, ...] | None, default: int | None, asked: int | None, length: int
) -> None:
    model: Any = SimpleNamespace(manifest=manifest(shorter=shorter, default_dimensions=default))
    body = request(dimensions=asked)
    check_dimensions(model, body)
    [vector] = shortened(model, body, [np.full(4, 0.5, np.float32)])
    assert len(vector) == length
    assert np.linalg.norm(vector) == pytest.approx(1)


@pytest.mark.parametrize(
    ("shorter", "asked", "message"),
    [
        ((2, 3), 1, "vectors of 2, 3 or 4 numbers"),
        ((), 2, "vectors of 4 numbers"),
        (None, 5, "more than the 4"),
        ((2,), 5, "more than the 4"),
    ],
)
def test_length_that_the_model_does_not_make_is_refused(
    shorter: tuple[int, ...] | None, asked: int, message: str
) -> None:
    model: Any = SimpleNamespace(manifest=manifest(shorter=shorter, default_dimensions=None))
    with pytest.raises(RequestError, match=message) as caught:
        check_dimensions(model, request(dimensions=asked))
    assert caught.value.param == "dimensions"
