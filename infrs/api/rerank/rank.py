"""Texts and pairs of texts to score, and the response bodies of their scores."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from infrs.api.rerank.request import ClassifierFields, ClassifyRequest, RerankRequest, ScoreRequest
from infrs.errors import RequestError
from infrs.models.encoders.classifier import ClassifierModel, EncodedText
from infrs.models.encoders.encoder import Vector
from infrs.text.tokenizer import Part

MAX_TOKENS = 1 << 19  # of all texts or pairs together


def rerank_pairs(model: ClassifierModel, body: RerankRequest) -> list[EncodedText]:
    """Return the query with each document, as tokens.

    Raises ContextLengthError for a text that is too long, RequestError for more tokens than a request may have.
    """
    _check_one_label(model)
    query = model.part_of(body.query, "query", body.max_tokens_per_query)
    named = ((f"documents[{index}]", query, text) for index, text in enumerate(body.documents))
    return _pairs(model, body, named, body.max_tokens_per_doc)


def score_pairs(model: ClassifierModel, body: ScoreRequest) -> list[EncodedText]:
    """Return the pairs of texts as tokens. Raises as `rerank_pairs`."""
    _check_one_label(model)
    is_one = len(body.text_1) == 1
    first = model.part_of(body.text_1[0], "text_1") if is_one else None

    def named() -> Iterable[tuple[str, Part, str]]:
        for index, text in enumerate(body.text_2):
            part = model.part_of(body.text_1[index], f"text_1[{index}]") if first is None else first
            yield (f"text_2[{index}]" if len(body.text_2) > 1 else "text_2"), part, text

    return _pairs(model, body, named(), None)


def classify_texts(model: ClassifierModel, body: ClassifyRequest) -> list[EncodedText]:
    """Return texts as tokens. Raises as `rerank_pairs`."""
    is_cut = body.truncate_prompt_tokens is not None
    num_special = model.tokenizer.num_special(is_pair=False)
    kept = max(0, _longest(model, body) - num_special) if is_cut else None
    named = ((f"input[{index}]" if len(body.input) > 1 else "input", text) for index, text in enumerate(body.input))
    return _limited((param, model.text_of(text, param, kept)) for param, text in named)


def _pairs(
    model: ClassifierModel, body: ClassifierFields, named: Iterable[tuple[str, Part, str]], max_tokens: int | None
) -> list[EncodedText]:
    """Return pairs as tokens. named: the field of each second text, the first text and the second."""
    longest = _longest(model, body) - model.tokenizer.num_special(is_pair=True)
    is_cut = body.truncate_prompt_tokens is not None or max_tokens is not None

    def pairs() -> Iterator[tuple[str, EncodedText]]:
        for param, first, text in named:
            room = longest - len(first.ids)
            if is_cut and room < 1:
                raise RequestError(
                    f"truncate_prompt_tokens: too few for {param}, of which nothing would be left; raise it",
                    param="truncate_prompt_tokens",
                )
            kept = (room if max_tokens is None else min(max_tokens, room)) if is_cut else None
            yield param, model.pair_of(first, text, param, kept)

    return _limited(pairs())


def _longest(model: ClassifierModel, body: ClassifierFields) -> int:
    """Return the most tokens of a text or a pair, if the request asks for truncation."""
    asked = body.truncate_prompt_tokens
    return model.max_model_len if asked is None or asked < 0 else min(asked, model.max_model_len)


def _limited(texts: Iterable[tuple[str, EncodedText]]) -> list[EncodedText]:
    """Return the texts. Raises RequestError, by their field, once they have more tokens than a request may have."""
    kept, num_tokens = [], 0
    for param, text in texts:
        kept.append(text)
        num_tokens += len(text.ids)
        if num_tokens > MAX_TOKENS:
            field = param.partition("[")[0]
            raise RequestError(
                f"{field}: more than {MAX_TOKENS} tokens in all; send the texts in several requests",
                param=field,
                code="max_tokens_per_request",
            )
    return kept


def _check_one_label(model: ClassifierModel) -> None:
    """Raise RequestError for a model that gives several scores."""
    num_labels = len(model.manifest.labels)
    if num_labels > 1:
        raise RequestError(
            f"model: {model.model_id} has {num_labels} labels, and a score needs a model with one; send texts to "
            "POST /classify, or use a cross-encoder",
            param="model",
            code="model_not_supported",
        )


def rerank_response(
    model: ClassifierModel, body: RerankRequest, logits: Sequence[Vector], num_tokens: int, request_id: str
) -> bytes:
    """Return the body of an answer: documents by falling score, equal ones in the order of the request."""
    scores = _scores(model, body, logits)
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n or None]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in order]
    if body.return_documents:
        results = [{**result, "document": {"text": body.documents[result["index"]]}} for result in results]
    return orjson.dumps(
        {
            "id": request_id,
            "model": model.model_id,
            "results": results,
            "usage": _usage(num_tokens),
            "meta": {"api_version": {"version": "2"}, "tokens": {"input_tokens": num_tokens, "output_tokens": 0}},
        }
    )


def score_response(
    model: ClassifierModel, body: ScoreRequest, logits: Sequence[Vector], num_tokens: int, request_id: str
) -> bytes:
    """Return the body of an answer: the scores in the order of the pairs."""
    scores = _scores(model, body, logits)
    data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores)]
    return _list(model, data, num_tokens, request_id)


def classify_response(
    model: ClassifierModel, body: ClassifyRequest, logits: Sequence[Vector], num_tokens: int, request_id: str
) -> bytes:
    """Return the body of an answer: for each text the most likely label, and the scores of all."""
    labels = model.manifest.labels
    data = []
    for index, each in enumerate(logits):
        scores = model.scores_of(each, use_activation=body.use_activation is not False)
        best = labels[int(scores.argmax())]
        data.append({"index": index, "label": best, "probs": scores.tolist(), "num_classes": len(labels)})
    return _list(model, data, num_tokens, request_id)


def _list(model: ClassifierModel, data: list[dict[str, Any]], num_tokens: int, request_id: str) -> bytes:
    content = {
        "id": request_id,
        "object": "list",
        "created": int(time.time()),
        "model": model.model_id,
        "data": data,
        "usage": {**_usage(num_tokens), "completion_tokens": 0},
    }
    return orjson.dumps(content)


def _scores(model: ClassifierModel, body: ClassifierFields, logits: Sequence[Vector]) -> list[float]:
    use = body.use_activation is not False
    return [float(model.scores_of(each, use_activation=use)[0]) for each in logits]


def _usage(num_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
