"""The request bodies of `POST /v1/rerank` (Cohere, Jina, vLLM), `POST /v1/score` and `POST /classify` (vLLM)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from infrs.api.common.fields import HINT, Model, Neutral, TokenCount, Unsupported, refuse
from infrs.api.common.other_fields import OtherFields

MAX_TEXTS = 4096  # of a request; Cohere advises 1,000 documents
_TEXT = {"type": "string", "minLength": 1}
_DOCUMENT = {"type": "object", "properties": {"text": _TEXT}, "required": ["text"]}


def _texts(value: object, param: str, *, alone: bool) -> list[str]:
    """Return one to MAX_TEXTS texts. A document is a string, or an object with the field `text` only.

    alone: take a single string too, and no objects.
    """
    if alone and isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        refuse(param, f"expected {'a string or ' * alone}an array of strings", "invalid_type")
    if not value:
        refuse(param, "must not be empty", "empty_array")
    if len(value) > MAX_TEXTS:
        refuse(param, f"at most {MAX_TEXTS} of them in a request", "array_above_max_length")
    return [_text(item, f"{param}[{index}]", alone=alone) for index, item in enumerate(value)]


def _text(item: object, param: str, *, alone: bool) -> str:
    if isinstance(item, dict) and not alone:
        others = [str(name) for name in item if name != "text"]
        if others:
            refuse(f"{param}.{others[0]:.60}", "not a field of a document; put it into `text`", "unknown_parameter")
        if "text" not in item:
            refuse(f"{param}.text", "required", "missing_required_parameter")
        item, param = item["text"], f"{param}.text"
    if not isinstance(item, str):
        refuse(param, f"expected a string{' or an object with `text`' * (not alone)}", "invalid_type")
    if not item:
        refuse(param, "must not be empty")
    return item


def _one_or_many(param: str) -> tuple[object, object]:
    many = {"type": "array", "minItems": 1, "maxItems": MAX_TEXTS, "items": _TEXT}
    return PlainValidator(partial(_texts, param=param, alone=True)), WithJsonSchema({"anyOf": [_TEXT, many]})


class ClassifierFields(OtherFields):
    """The fields that the routes of classifiers share. None is "not given".

    truncate_prompt_tokens: a longer text, or the second text of a longer pair, loses its end; -1 is the model's
    maximum. Without it, it is refused. use_activation: false asks for the logits.
    """

    model: Model
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None
    use_activation: bool | None = None
    truncation_side: Annotated[Any, Neutral("right")] = None
    instruction: Unsupported = None
    add_special_tokens: Annotated[Any, Neutral(True)] = None


class RerankRequest(ClassifierFields):
    """Documents to order by their relevance to a query.

    top_n: the most results, 0 for all. max_tokens_per_doc, max_tokens_per_query: a longer text loses its end, and a
    document keeps no more than there is room for. max_chunks_per_doc: a document that fits is one chunk.
    """

    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[
        list[str],
        PlainValidator(partial(_texts, param="documents", alone=False)),
        WithJsonSchema({"type": "array", "minItems": 1, "maxItems": MAX_TEXTS, "items": {"anyOf": [_TEXT, _DOCUMENT]}}),
    ]
    top_n: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: TokenCount | None = None
    max_tokens_per_query: TokenCount | None = None
    max_chunks_per_doc: Annotated[TokenCount, HINT] | None = None
    rank_fields: Annotated[Any, Neutral([], ["text"])] = None


class ClassifyRequest(ClassifierFields):
    """Texts to classify."""

    input: Annotated[list[str], *_one_or_many("input")]


class ScoreRequest(ClassifierFields):
    """Pairs of texts to score: one text with each of several, or two lists of the same length."""

    text_1: Annotated[list[str], *_one_or_many("text_1")]
    text_2: Annotated[list[str], *_one_or_many("text_2")]
    encoding_format: Annotated[Literal["float"], HINT] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.text_1) not in (1, len(self.text_2)):
            refuse("text_2", f"has {len(self.text_2)} texts and text_1 {len(self.text_1)}; send as many, or one text_1")
        return self
