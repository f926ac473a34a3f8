"""Close the objects of a schema for generation: an object has only its listed properties.

JSON Schema allows further properties, and models then often write them without end. An object stays open if its
schema has `additionalProperties` or `unevaluatedProperties`, or lists no properties. With
`unevaluatedProperties: false` it is closed, unless its properties depend on the value. Several schemas can apply to one
object (`allOf`, `$ref` with other keywords, `anyOf` with `properties`). Closing each would forbid the properties of
the others. So the outermost schema is closed over the properties of all, and the inner ones stay open. An inner schema
that is also used alone stays open too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from infrs.text.schemas.tree import Node, resolve, rewrite, subschemas

_MAX_PARTS = 50_000  # visited in total; a schema with more stays unchanged
_IN_PLACE = frozenset(
    {"allOf", "if", "then", "else", "dependentSchemas", "dependencies"}
)  # next to the schema's own keywords
_DEFINITIONS = ("$defs", "definitions")
_SAYS = frozenset({"additionalProperties", "unevaluatedProperties"})
_ARRAYS = frozenset({"items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"})
_OBJECTS = frozenset({"properties", "patternProperties", "required", *_SAYS})
_CONDITIONAL = frozenset({"anyOf", "oneOf", "if", "dependentSchemas", "dependencies", "patternProperties"})
_SIZES = frozenset({"minProperties", "maxProperties"})


def closed(schema: Any) -> Any:  # noqa: ANN401  # any JSON
    """Copy a schema with its objects closed. Its nesting must be bounded: see `infrs.engine.sampling.json_schema`."""
    plan = _Plan(schema)

    def close(node: Node) -> Node:
        names = plan.names.get(id(node))
        if names is None or id(node) in plan.kept:
            return dict(node)
        listed = _mapping(node, "properties")
        more = {name: True for name in names if name not in listed}
        node = {keyword: value for keyword, value in node.items() if keyword != "unevaluatedProperties"}
        return {**node, "properties": {**listed, **more}, "additionalProperties": False}

    return rewrite(schema, close)


class _Plan:
    """The objects to close. Nodes are compared by identity, because parsed JSON has no node twice."""

    def __init__(self, schema: object) -> None:
        self.names: dict[int, list[str]] = {}  # by node to close: all its allowed properties
        self.kept: set[int] = set()  # nodes that stay unchanged
        self._schema = schema
        self._parts_left = _MAX_PARTS
        self._targets: dict[str, object] = {}
        self._describing: dict[int, bool] = {}
        visited: set[int] = set()
        self._to_visit: list[object] = [schema]  # nodes that apply to their value alone
        while self._to_visit:
            node = self._to_visit.pop()
            if isinstance(node, dict) and id(node) not in visited:
                visited.add(id(node))
                self._visit(node)
            if self._parts_left < 0:
                self.names.clear()
                return

    def _visit(self, node: Node) -> None:
        groups = list(self._groups(node))
        describing = [group for group in groups if any(self._describes(child) for child in group)]
        is_composed = len(describing) + bool(node.keys() & (_OBJECTS | _ARRAYS)) > 1
        needs_parts = is_composed or ("properties" in node and not describing)
        parts = [node, *self._parts(node)] if needs_parts else [node]
        self._close(node, parts)
        if is_composed:
            self.kept |= {id(part) for part in parts[1:]}
        else:
            self._to_visit += [child for group in groups for child in group]
            parts = [node]
        self._visit_inside(parts)

    def _visit_inside(self, parts: list[Node]) -> None:
        """Continue with the schemas of properties and items, but keep those that apply together with others."""
        listed = Counter(name for part in parts for name in _mapping(part, "properties"))
        num_arrays = sum(bool(part.keys() & _ARRAYS) for part in parts)
        num_patterns = sum(len(_mapping(part, "patternProperties")) for part in parts)
        num_others = sum(len(part.keys() & _SAYS) for part in parts) if len(parts) > 1 else 0
        overlaid = num_patterns + num_others
        for part in parts:
            for name, child in _mapping(part, "properties").items():
                self._continue_with(child, alone=listed[name] == 1 and not overlaid)
            for keyword, child in subschemas(part):
                if keyword == "patternProperties":
                    self._continue_with(child, alone=not listed and overlaid == 1)
                elif keyword in _ARRAYS:
                    self._continue_with(child, alone=num_arrays == 1)
                elif keyword in _SAYS:
                    self._continue_with(child, alone=len(parts) == 1)
                elif keyword in _DEFINITIONS:
                    self._continue_with(child, alone=True)

    def _continue_with(self, node: object, *, alone: bool) -> None:
        if alone:
            self._to_visit.append(node)
        else:
            self._keep_whole(node)

    def _close(self, node: Node, parts: list[Node]) -> None:
        """Record the property names of all parts, unless a part has further keywords for properties."""
        is_said = node.get("unevaluatedProperties") is False and not any(part.keys() & _CONDITIONAL for part in parts)
        says = _SAYS - {"unevaluatedProperties"} if is_said else _SAYS
        if node.keys() & says or any(part.keys() & (_SAYS | {"patternProperties"}) for part in parts[1:]):
            return
        lists_some = is_said or any(_mapping(part, "properties") for part in parts)
        if any(self._is_lost(part) for part in parts) or not lists_some:
            return
        names = dict.fromkeys(name for part in parts for name in (*_mapping(part, "properties"), *_required(part)))
        least = node.get("minProperties", 0)
        sized = any(part.keys() & _SIZES for part in parts) if len(parts) > 1 else False
        if sized or not isinstance(least, int) or least > len(names):
            return
        self.names[id(node)] = [*names]

    def _keep_whole(self, node: object) -> None:
        """Keep a node and all nodes inside it."""
        to_do = [node]
        whole: set[int] = set()
        while to_do:
            node = to_do.pop()
            if isinstance(node, dict) and id(node) not in whole:
                whole.add(id(node))
                to_do += [*(child for _, child in subschemas(node)), self._target(node)]
        self._parts_left -= len(whole)
        self.kept |= whole

    def _groups(self, node: Node) -> Iterator[list[object]]:
        """Yield the schemas that apply to a node's value besides its own keywords; a group has alternatives."""
        for keyword in ("anyOf", "oneOf"):
            if isinstance(node.get(keyword), list):
                yield node[keyword]
        if node.keys() & _IN_PLACE:
            yield from ([child] for keyword, child in subschemas(node) if keyword in _IN_PLACE)
        if "$ref" in node:
            yield [self._target(node)]

    def _parts(self, node: Node) -> list[Node]:
        """Return all other schemas that apply to a node's value, at any depth."""
        found: dict[int, Node] = {}
        to_do = [child for group in self._groups(node) for child in group]
        for part in to_do:  # the list grows in the loop
            if isinstance(part, dict) and part is not node and id(part) not in found:
                found[id(part)] = part
                to_do += [child for group in self._groups(part) for child in group]
        self._parts_left -= len(found)
        return list(found.values())

    def _describes(self, node: object) -> bool:
        """Return whether a schema, or one that applies with it, has keywords for objects or arrays."""
        if not isinstance(node, dict):
            return False
        if id(node) not in self._describing:
            parts = [node, *self._parts(node)]
            self._describing[id(node)] = any(part.keys() & (_OBJECTS | _ARRAYS) for part in parts)
        return self._describing[id(node)]

    def _is_lost(self, node: Node) -> bool:
        return "$ref" in node and not isinstance(self._target(node), dict)

    def _target(self, node: Node) -> object:
        reference = node.get("$ref")
        if not isinstance(reference, str):
            return None
        if reference not in self._targets:
            self._targets[reference] = resolve(self._schema, reference)
        return self._targets[reference]


def _mapping(node: Node, keyword: str) -> dict[str, Any]:
    value = node.get(keyword)
    return value if isinstance(value, dict) else {}


def _required(node: Node) -> list[str]:
    value = node.get("required")
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
