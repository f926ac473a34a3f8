"""What the schema of a tool's parameters says of its arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from infrs.text.schemas.tree import resolve

Schema = Mapping[str, Any]
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True)
class Argument:
    """What a tool's schema says of one argument.

    is_text: whether it can be a string. A format without quotes then writes it as it is, and any other value as JSON.
    is_nullable: whether it can be null.
    """

    is_text: bool = False
    is_nullable: bool = False


def argument_of(name: str, parameters: Schema) -> Argument:
    """Return what the JSON schema of a tool's parameters says of an argument."""
    schema = properties_of(parameters, parameters).get(name, parameters.get("additionalProperties"))
    types = types_of(schema, parameters)
    return Argument(is_text="string" in types, is_nullable="null" in types)


def properties_of(schema: object, root: object) -> dict[str, object]:
    """Return the schemas of all properties that a schema lists or requires, by name."""
    found: dict[str, object] = {}
    for part in parts_of(schema, root):
        listed, required = part.get("properties"), part.get("required")
        found = {**(listed if isinstance(listed, dict) else {}), **found}
        names = required if isinstance(required, list) else []
        found |= {name: {} for name in names if isinstance(name, str) and name not in found}
    return found


def is_open(schema: Schema, *, default: bool = False) -> bool:
    """Return whether an object can have properties that its schema does not list. `default`: without keywords."""
    return "patternProperties" in schema or schema.get("additionalProperties", default) is not False


def types_of(schema: object, root: object) -> frozenset[str]:
    """Return the JSON types that a schema names, with its references into `root`; empty if it names none."""
    return frozenset(each for part in parts_of(schema, root) for each in _named_types(part))


def choices_of(schema: object, root: object) -> list[object] | None:
    """Return the values that a schema lists; None if other values are allowed."""
    values: list[object] = []
    for part in parts_of(schema, root):
        if "const" in part:
            values.append(part["const"])
        elif isinstance(part.get("enum"), list):
            values += part["enum"]
        elif part.get("type") == "null":
            values.append(None)
        elif not part.keys() & {"$ref", "anyOf", "oneOf"}:
            return None
    return values


def parts_of(schema: object, root: object) -> Iterator[Schema]:
    """Yield a schema and all that apply to the same value."""
    seen: set[int] = set()
    to_do = [schema]
    for part in to_do:  # the list grows in the loop
        if not isinstance(part, Mapping) or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(reference := part.get("$ref"), str):
            to_do.append(resolve(root, reference))
        for keyword in ("anyOf", "oneOf", "allOf"):
            to_do += part[keyword] if isinstance(part.get(keyword), list) else []


def _named_types(schema: Schema) -> Iterator[str]:
    named = schema.get("type")
    if named is not None:
        yield from (each for each in (named if isinstance(named, list) else [named]) if isinstance(each, str))
        if schema.get("nullable") is True:  # OpenAPI 3.0
            yield "null"
        return
    values = schema.get("enum")
    if "const" in schema:
        values = [schema["const"]]
    for value in values if isinstance(values, list) else ():
        yield "null" if value is None else _JSON_TYPES[type(value)]
