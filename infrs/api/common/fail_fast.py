"""Early end of validation. pydantic collects an error for each invalid element of a list or mapping.

A body of 4 MB can have a million of them, which take gigabytes and tens of seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic_core import CoreSchema, core_schema

Node = dict[str, Any]

_NOT_SCHEMAS = frozenset({"metadata", "serialization", "default", "expected"})
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
