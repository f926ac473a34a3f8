"""A field that takes a text, token ids, or a list of either: `prompt` of completions, `input` of embeddings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from infrs.api.common.fail_fast import in_pieces
from infrs.api.common.fields import TokenId, refuse

Text = str | list[int]

MAX_TOKEN_IDS = 1 << 19
_PIECE = 1 << 12  # values; to validate them takes 0.3 ms


TokenIds = Annotated[list[TokenId], Field(max_length=MAX_TOKEN_IDS), in_pieces(_PIECE, MAX_TOKEN_IDS)]


def as_texts(value: object, param: str, limit: int) -> list[Text]:
    """Return one to `limit` texts, all strings or all lists of token ids. Refuses an empty text."""
    alone = isinstance(value, str) or (isinstance(value, list) and value and _find_other(value, int) is None)
    if alone:
        value = [value]
    if not isinstance(value, list):
        refuse(param, "expected a string, an array of strings, of token ids or of arrays of token ids", "invalid_type")
    if not value:
        refuse(param, "must not be empty", "empty_array")
    if len(value) > limit:
        refuse(param, f"at most {limit} of them in a request", "array_above_max_length")
    for index, text in enumerate(value):
        where = param if alone else f"{param}[{index}]"
        if type(text) is not type(value[0]) or not isinstance(text, str | list):
            refuse(
                f"{param}[{index}]",
                "expected strings, token ids, or arrays of token ids, all of a kind",
                "invalid_type",
            )
        if not text:
            refuse(where, "must not be empty", "empty_array" if isinstance(text, list) else "invalid_value")
        if isinstance(text, list):
            odd = _find_other(text, int)
            if odd is not None:
                refuse(f"{where}[{odd}]", "expected a token id", "invalid_type")
    return value


def _find_other(values: list[Any], kind: type) -> int | None:
    """Return the index of the first value of another type."""
    for start in range(0, len(values), _PIECE):  # not all together: see `in_pieces`
        types = [*map(type, values[start : start + _PIECE])]
        if types.count(kind) < len(types):
            return start + next(index for index, other in enumerate(types) if other is not kind)
    return None


def texts_schema(limit: int) -> dict[str, Any]:
    """Return the JSON schema of the values that `as_texts` takes."""
    text = {"type": "string", "minLength": 1}
    ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
    many = {"type": "array", "minItems": 1, "maxItems": limit}
    return {"anyOf": [text, {**many, "items": text}, ids, {**many, "items": ids}]}
