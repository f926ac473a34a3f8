"""A field that takes a text, token ids, or a list of either: `prompt` of completions, `input` of embeddings."""

from __future__ import annotations

from typing import Any

from infrs.api.common.fields import refuse

Text = str | list[int]


def as_texts(value: object, param: str, limit: int) -> list[Text]:
    """Return one to `limit` texts, all strings or all lists of token ids. Refuses an empty text."""
    alone = isinstance(value, str) or (isinstance(value, list) and value and all(type(item) is int for item in value))
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
            odd = next((i for i, item in enumerate(text) if type(item) is not int), None)
            if odd is not None:
                refuse(f"{where}[{odd}]", "expected a token id", "invalid_type")
    return value


def texts_schema(limit: int) -> dict[str, Any]:
    """Return the JSON schema of the values that `as_texts` takes."""
    text = {"type": "string", "minLength": 1}
    ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
    many = {"type": "array", "minItems": 1, "maxItems": limit}
    return {"anyOf": [text, {**many, "items": text}, ids, {**many, "items": ids}]}
