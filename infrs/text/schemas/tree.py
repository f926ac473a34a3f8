"""JSON schemas as trees: their subschemas, and a copy without neutral keywords.

The grammar compiler refuses every keyword that it does not implement, even with a neutral value such as zod's
`propertyNames: {"type": "string"}`. Sources: JSON Schema 2020-12, Core sections 10 and 11, Validation section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

from infrs.text.schemas.patterns import without_look_ahead
from infrs.text.schemas.string_formats import PATTERNS

Node = dict[str, Any]

LOWER = ("minLength", "minItems", "minProperties")
UPPER = ("maxLength", "maxItems", "maxProperties")
_SINGLE = frozenset({"items", "additionalItems", "unevaluatedItems", "contains", "propertyNames"})
_SINGLE |= {"additionalProperties", "unevaluatedProperties", "not", "if", "then", "else"}
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
ANNOTATIONS = frozenset({"title", "description", "$comment", "examples", "default", "deprecated"})
# Those of Validation, section 7.3, that the compiler has. It has all others but `regex` as patterns. Any other `format`
# is an annotation, such as OpenAPI's `password` and `binary`.
_FORMATS = frozenset({"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
_DIALECTS = {f"http://json-schema.org/draft-0{number}/schema#" for number in (4, 6, 7)}
_DIALECTS |= {f"https://json-schema.org/draft/{date}/schema" for date in ("2019-09", "2020-12")}
_URI_CHARS = "#/%$~!&'()*+,;=:@?-._"


def subschemas(node: Node) -> Iterator[tuple[str, object]]:
    """Yield the schemas directly inside a schema, each with its keyword. Values of `enum` are not schemas."""
    for keyword, value in node.items():
        if keyword in _MAPS and isinstance(value, dict):
            yield from ((keyword, child) for child in value.values())
        elif keyword in _LISTS and isinstance(value, list):
            yield from ((keyword, child) for child in value)
        elif keyword in _SINGLE:
            yield keyword, value


def rewrite(schema: Any, change: Callable[[Node], Node]) -> Any:  # noqa: ANN401  # any JSON
    """Copy a schema and apply `change` to every schema object in it, outer ones first."""
    if not isinstance(schema, dict):
        return schema
    changed = change(schema)
    for keyword, value in changed.items():
        if keyword in _MAPS and isinstance(value, dict):
            changed[keyword] = {name: rewrite(child, change) for name, child in value.items()}
        elif keyword in _LISTS and isinstance(value, list):
            changed[keyword] = [rewrite(child, change) for child in value]
        elif keyword in _SINGLE:
            changed[keyword] = rewrite(value, change)
    return changed


def resolve(schema: object, reference: str) -> object:
    """Return the target of a local reference such as `#/$defs/a`; None if there is none."""
    if not reference.startswith("#"):
        return None
    target = schema
    for part in filter(None, unquote(reference[1:]).split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            target = target[int(name)] if name.isdecimal() and int(name) < len(target) else None
        else:
            target = target.get(name) if isinstance(target, dict) else None
    return target


def simplified(node: Node) -> Node:
    """Copy one schema, without its subschemas, in the form for the compiler: see `rewrite`."""
    wanted = PATTERNS.get(str(node.get("format")))
    node = {keyword: value for keyword, value in node.items() if not _asks_nothing(keyword, value, node)}
    if "if" in node and "then" not in node and "else" not in node:
        del node["if"]
    for keyword in (*LOWER, *UPPER):
        if isinstance(value := node.get(keyword), float) and value.is_integer():
            node[keyword] = int(value)
    if isinstance(pattern := node.get("pattern"), str):
        node["pattern"] = without_look_ahead(pattern)
    if wanted is not None and "pattern" not in node:
        node["pattern"] = wanted
    elif wanted is not None and isinstance(others := node.get("allOf", []), list):
        node["allOf"] = [*others, {"pattern": wanted}]
    if isinstance(reference := node.get("$ref"), str):
        node["$ref"] = quote(reference, safe=_URI_CHARS, errors="surrogatepass")
    return node


def _takes_all(schema: object, *, type_of_all: str = "") -> bool:
    """Return whether a schema accepts every value of one type."""
    if not isinstance(schema, dict):
        return schema is True
    types = schema.get("type", type_of_all)
    asked = schema.keys() - ANNOTATIONS - {"type"}
    return not asked and (types == type_of_all or (isinstance(types, list) and type_of_all in types))


def _names_nothing(value: object) -> bool:
    return isinstance(value, dict) and all(each == [] or _takes_all(each) for each in value.values())


# For each keyword, whether a value is neutral in a schema.
_NEUTRAL: dict[str, Callable[[Any, Node], bool]] = {
    "unevaluatedProperties": lambda value, _: _takes_all(value),
    "unevaluatedItems": lambda value, _: _takes_all(value),
    "propertyNames": lambda value, _: _takes_all(value, type_of_all="string"),
    "uniqueItems": lambda value, _: value is False,
    "not": lambda value, _: value is False,
    "then": lambda value, node: "if" not in node or _takes_all(value),
    "else": lambda value, node: "if" not in node or _takes_all(value),
    "dependentRequired": lambda value, _: _names_nothing(value),
    "dependentSchemas": lambda value, _: _names_nothing(value),
    "dependencies": lambda value, _: _names_nothing(value),
    "contains": lambda _, node: node.get("minContains") == 0 and "maxContains" not in node,
    "minContains": lambda value, node: "contains" not in node or (value == 0 and "maxContains" not in node),
    "maxContains": lambda _, node: "contains" not in node,
    "format": lambda value, _: isinstance(value, str) and value not in _FORMATS,
    "$schema": lambda value, _: str(value) not in _DIALECTS,  # the compiler has no others
    "$dynamicAnchor": lambda *_: True,  # only references to them have a meaning
    "$recursiveAnchor": lambda *_: True,
}


def _asks_nothing(keyword: str, value: object, node: Node) -> bool:
    if value is None and keyword != "const":  # clients write so what they do not set
        return True
    neutral = _NEUTRAL.get(keyword)
    return neutral is not None and neutral(value, node)
