"""Check the forms of the values of a schema's keywords, which clients can get wrong.

Source: JSON Schema 2020-12, Core section 10, Validation sections 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_FORMS: dict[str, Callable[[object], bool]] = {
    "$ref": _is_text,
    "pattern": _is_text,
    "format": _is_text,
    "type": lambda value: _is_text(value) or _is_texts(value),
    "enum": _is_list,
    "allOf": _is_list,
    "anyOf": _is_list,
    "oneOf": _is_list,
    "prefixItems": _is_list,
    "required": _is_texts,
    "properties": _is_mapping,
    "patternProperties": _is_mapping,
    "minLength": _is_count,
    "maxLength": _is_count,
    "minItems": _is_count,
    "maxItems": _is_count,
}


def has_valid_form(node: dict[str, Any]) -> bool:
    """Return whether the keywords of one schema, without its subschemas, have values of the form that they need.

    The compiler refuses a schema for which this is false, with the keyword's name.
    """
    return all(form(node[keyword]) for keyword, form in _FORMS.items() if keyword in node)
