"""Limits of validation: it ends at the first error, and validates long lists in pieces.

pydantic collects an error for each invalid element of a list or mapping. A body of 4 MB can have a million of them,
which take gigabytes and tens of seconds. pydantic also holds the interpreter lock during a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

Node = dict[str, Any]

_NOT_SCHEMAS = frozenset({"metadata", "serialization", "default", "expected"})
_PYDANTICS = frozenset(get_args(core_schema.ErrorType))
_MAX_INTEGER = float(1 << 63)


def bound_errors(schema: CoreSchema) -> None:
    """Change a schema in place: its lists and mappings stop at their first error, its integers take `8.0`.

    JSON has one kind of number, and JSON Schema's `integer` takes 8.0 (2020-12 Validation, 6.1.1). The elements of
    lists do not change: a Python call for each of a million token ids takes too long.
    """
    for node in [*nodes(schema)]:
        if node["type"] in ("list", "dict"):
            node["fail_fast"] = True
        if node.get("schema", {}).get("type") == "int":
            node["schema"] = core_schema.no_info_before_validator_function(_whole, node["schema"])


def nodes(schema: Any) -> Iterator[Node]:  # noqa: ANN401  # any part of a schema
    """Yield the schemas that a schema is made of, itself included; references to others are not followed."""
    is_schema = isinstance(schema, dict) and isinstance(schema.get("type"), str)  # else a mapping of fields or choices
    if is_schema:
        yield schema
    if isinstance(schema, dict):
        for name, child in schema.items():
            if not (is_schema and name in _NOT_SCHEMAS):
                yield from nodes(child)
    elif isinstance(schema, list | tuple):
        for child in schema:
            yield from nodes(child)


def _whole(value: object) -> object:
    """Return a whole number such as 8.0 as an integer."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) < _MAX_INTEGER else value


def in_pieces(size: int, most: int) -> WrapValidator:
    """Return a validator of a list that validates `size` elements at a time. Between them, other threads can run.

    A list that is empty or has more than `most` elements is validated as a whole, which checks its length.
    """

    def validate_pieces(values: object, validate: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401
        if not isinstance(values, list) or not 0 < len(values) <= most:
            return validate(values)
        valid: list[Any] = []
        for start in range(0, len(values), size):
            try:
                valid += validate(values[start : start + size])
            except ValidationError as error:
                raise ValidationError.from_exception_data(error.title, _moved(error, start)) from None
        return valid

    return WrapValidator(validate_pieces)


def _moved(error: ValidationError, start: int) -> list[InitErrorDetails]:
    """Return the errors of a piece that begins at an index of its list, in terms of the list."""
    moved = []
    for fault in error.errors(include_url=False):
        index, *inner = fault["loc"]
        kind, context = fault["type"], fault.get("ctx", {})
        known = kind if kind in _PYDANTICS else PydanticCustomError(kind, context.get("message", fault["msg"]), context)
        details = InitErrorDetails(type=known, loc=(start + int(index), *inner), input=fault["input"])
        moved.append(InitErrorDetails(**details, ctx=context) if kind in _PYDANTICS else details)
    return moved
