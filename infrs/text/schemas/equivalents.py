"""Express keywords that the grammar compiler lacks by keywords that it has.

Sources: JSON Schema 2020-12, Core sections 10.3 and 11, Validation section 6.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from itertools import combinations, permutations
from typing import Any

from infrs.text.schemas.forms import has_valid_form
from infrs.text.schemas.tree import ANNOTATIONS, UPPER, Node, resolve, simplified

MAX_LISTS = 500  # written for all `uniqueItems` of a schema together
MAX_COUNT = 1 << 20  # an answer reaches no larger length or number of items
MAX_NUMBER = 10**18  # the compiler has no larger bounds, so these are tightened

_TIGHTER = {
    "maximum": (MAX_NUMBER, min),
    "exclusiveMaximum": (MAX_NUMBER, min),
    "minimum": (-MAX_NUMBER, max),
    "exclusiveMinimum": (-MAX_NUMBER, max),
}
_TYPES: dict[str, type] = {"string": str, "boolean": bool}
_KINDS = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
_MAX_BRANCHES = 64  # of a oneOf, which are compared in pairs
_APPLICATORS = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "contains"})
_UUID = "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"


class Equivalents:
    """A function for `rewrite` that expresses what it can, and leaves the rest to the compiler to refuse."""

    def __init__(self, schema: object) -> None:
        """schema: the whole, in which references are resolved."""
        self._schema = schema
        self._lists_left = MAX_LISTS

    def __call__(self, node: Node) -> Node:
        """Copy one schema, without its subschemas, with equivalent keywords."""
        node = _bounded(node)
        if not has_valid_form(node):
            return node
        _express_unevaluated(node)
        if "propertyNames" in node:
            self._express_names(node)
        if node.get("uniqueItems") is True:
            self._express_unique_items(node)
        if "oneOf" in node and "anyOf" not in node:
            pairs = combinations(node["oneOf"], 2)
            if len(node["oneOf"]) <= _MAX_BRANCHES and all(self._exclude(*pair) for pair in pairs):
                node["anyOf"] = node.pop("oneOf")
        return node

    def _exclude(self, one: object, other: object, depth: int = 2) -> bool:
        """Return whether no value matches both schemas, by their types, their values or one of their properties."""
        one, other = self._target(one), self._target(other)
        if not isinstance(one, dict) or not isinstance(other, dict):
            return False
        values, others = _distinct(self._values(one)), _distinct(self._values(other))
        if values and others:
            return len(_distinct([*values, *others])) == len(values) + len(others)
        if one.get("type") != "object" or other.get("type") != "object" or not depth:
            kinds = {str(each.get("type")) for each in (one, other)}
            return len(kinds) == 2 and kinds <= _KINDS and kinds != {"integer", "number"}
        shared = set(one.get("required", ())) & set(other.get("required", ()))
        children = [(one.get("properties", {}).get(name), other.get("properties", {}).get(name)) for name in shared]
        return any(self._exclude(*pair, depth - 1) for pair in children)

    def _express_names(self, node: Node) -> None:
        """Write `propertyNames` as `properties` or `patternProperties`, if it alone decides on the names."""
        value = node.get("additionalProperties", True)
        if node.get("properties") or node.get("patternProperties") or value is False:
            return
        names = self._target(node["propertyNames"])
        asked = set(names) - ANNOTATIONS - {"type"} if isinstance(names, dict) else set()
        if asked in ({"enum"}, {"const"}):
            listed = names.get("enum", [names.get("const")])
            node["properties"] = {name: value for name in listed if isinstance(name, str)}
        elif asked == {"pattern"}:
            node["patternProperties"] = {names["pattern"]: value}
        elif asked == {"format"} and names["format"] == "uuid":
            node["patternProperties"] = {_UUID: value}
        elif asked and asked <= {"minLength", "maxLength"}:
            sizes = f"{names.get('minLength', 0)},{names.get('maxLength', '')}"
            node["patternProperties"] = {f"^[\\s\\S]{{{sizes}}}$": value}
        else:
            return
        node["additionalProperties"] = False
        del node["propertyNames"]

    def _express_unique_items(self, node: Node) -> None:
        """Write a list of distinct values as an enumeration of such lists, if there are few."""
        least, most = node.get("minItems", 0), node.get("maxItems", MAX_COUNT)
        if most <= 1:
            del node["uniqueItems"]
            return
        values = _distinct(self._values(node.get("items")))
        sizes = range(least, min(most, len(values)) + 1)
        if node.get("type") != "array" or "prefixItems" in node or not values:
            return
        count = sum(math.perm(len(values), size) for size in sizes) if len(values) < MAX_LISTS else MAX_LISTS + 1
        if count > self._lists_left:
            return
        self._lists_left -= count
        for keyword in ("items", "uniqueItems", "minItems", "maxItems"):
            node.pop(keyword, None)
        node["enum"] = [list(each) for size in sizes for each in permutations(values, size)]

    def _values(self, node: object) -> Iterator[Any]:
        """Yield the values that a schema enumerates, or none if it does not enumerate all."""
        node = self._target(node)
        if not isinstance(node, dict):
            return
        asked, kind = node.keys() - ANNOTATIONS, _TYPES.get(str(node.get("type")), object)
        if asked - {"type"} in ({"enum"}, {"const"}):
            listed = node.get("enum", [node.get("const")])
            yield from (value for value in listed if isinstance(value, kind))
        elif asked == {"type"} and node["type"] == "boolean":
            yield from (False, True)

    def _target(self, node: object) -> Any:  # noqa: ANN401  # any JSON
        """Return a schema, or its target if it is only a reference, without neutral keywords.

        Return None if a keyword has no valid form.
        """
        if isinstance(node, dict) and node.keys() - ANNOTATIONS == {"$ref"} and isinstance(node["$ref"], str):
            node = resolve(self._schema, node["$ref"])
        node = simplified(node) if isinstance(node, dict) else node
        return None if isinstance(node, dict) and not has_valid_form(node) else node


def _bounded(node: Node) -> Node:
    """Copy a schema without upper bounds that no answer reaches, and with number bounds that the compiler has."""
    node = {keyword: value for keyword, value in node.items() if not (keyword in UPPER and _exceeds(value, MAX_COUNT))}
    for keyword, (limit, tighter) in _TIGHTER.items():
        if _is_number(node.get(keyword)):
            node[keyword] = tighter(node[keyword], limit)
    return node


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exceeds(value: Any, limit: int) -> bool:  # noqa: ANN401  # any JSON
    return _is_number(value) and value > limit


def _express_unevaluated(node: Node) -> None:
    """Write `unevaluatedProperties` and `unevaluatedItems` as the keywords for what no other keyword evaluates."""
    if node.keys() & _APPLICATORS:
        return
    for keyword, same in (("unevaluatedProperties", "additionalProperties"), ("unevaluatedItems", "items")):
        if keyword in node:
            node.setdefault(same, node[keyword])
            del node[keyword]


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Return values without those that are equal in JSON."""
    seen: dict[str, Any] = {}
    for value in values:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        seen.setdefault(json.dumps(whole, sort_keys=True), value)
    return list(seen.values())
