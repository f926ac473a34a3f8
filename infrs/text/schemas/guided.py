"""Convert a JSON schema for llguidance's compiler."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from llguidance import LLMatcher

from infrs.text.rust import raises_panics
from infrs.text.schemas.closing import closed
from infrs.text.schemas.equivalents import Equivalents
from infrs.text.schemas.tree import Node, rewrite, simplified

# Between JSON's tokens: nothing, a space, or a line break and an indent. Models would use any further whitespace.
_WHITESPACE = " |\\n {0,20}"
_OPTIONS = {"whitespace_flexible": True, "whitespace_pattern": _WHITESPACE}
_LENIENT = _OPTIONS | {"lenient": True, "coerce_one_of": True}
_DEFINITIONS = ("$defs", "definitions", "components", "$id")


def guided(schema: Any, *, whitespace: str = "") -> Node:  # noqa: ANN401  # any JSON
    """Build the operand of Lark's `%json`: the schema without neutral keywords and with closed objects.

    `whitespace`: if not empty, the regex of what may stand between two tokens.
    """
    options = _OPTIONS | {"whitespace_pattern": whitespace or _WHITESPACE}
    return _prepared(schema, simplified, options)


def guided_leniently(schema: Node, *, whitespace: str = "") -> Node:
    """Do as `guided` for the arguments, or one argument, of a tool that is not strict.

    What the compiler does not implement is left out: a keyword, a pattern, all of a property, or all of the schema.
    """
    prepared = _relaxed(json.dumps(schema))[0]
    return {**prepared, "x-guidance": prepared["x-guidance"] | {"whitespace_pattern": whitespace or _WHITESPACE}}


def is_implemented(schema: Node) -> bool:
    """Return whether the compiler implements a schema, so that `guided_leniently` leaves nothing out."""
    return _relaxed(json.dumps(schema))[1]


@lru_cache(maxsize=256)  # the grammar of a call and the names of relaxed tools need the same
def _relaxed(text: str) -> tuple[Node, bool]:
    """Return the operand for a schema in JSON, and whether the compiler implements all of it."""
    schema = json.loads(text)
    prepared = guided(schema)
    if _compiles(json.dumps(prepared)):
        return prepared, True
    return _without_lacking(schema), False


def _without_lacking(schema: Node) -> Node:
    prepared = _prepared_leniently(schema)
    if _compiles(json.dumps(prepared)):
        return prepared
    relaxed = {**schema, "properties": _usable_properties(schema)} if "properties" in schema else schema
    listed = {key: relaxed[key] for key in ("type", "properties", *_DEFINITIONS) if key in relaxed}
    for attempt in (relaxed, listed):
        prepared = _prepared_leniently(attempt)
        if _compiles(json.dumps(prepared)):
            return prepared
    return _prepared_leniently({"type": "object"} if schema.get("type") == "object" else {})


def _usable_properties(schema: Node) -> Node:
    """Return the properties of a schema, with `true` for each that does not compile alone."""
    properties = schema.get("properties")
    definitions = {key: schema[key] for key in _DEFINITIONS if key in schema}
    usable = {}
    for name, child in properties.items() if isinstance(properties, dict) else ():
        alone = {**definitions, "type": "object", "properties": {name: child}, "required": [name]}
        usable[name] = child if _compiles(json.dumps(_prepared_leniently(alone))) else True
    return usable


def _prepared_leniently(schema: Node) -> Node:
    return _prepared(schema, _simplified_for_tools, _LENIENT)


def _prepared(schema: Any, simple: Callable[[Node], Node], options: Node) -> Node:  # noqa: ANN401  # any JSON
    equivalents = Equivalents(schema)
    schema = closed(rewrite(schema, lambda node: equivalents(simple(node))))
    if not isinstance(schema, dict):  # `true` and `false` are schemas too, but have no keywords
        schema = {"allOf": [schema]}
    return {**schema, "x-guidance": options}


def _simplified_for_tools(node: Node) -> Node:
    node = simplified(node)
    if isinstance(pattern := node.get("pattern"), str) and not _is_implemented(pattern):
        del node["pattern"]
    if isinstance(patterns := node.get("patternProperties"), dict):
        node["patternProperties"] = {name: child for name, child in patterns.items() if _is_implemented(name)}
    return node


def _is_implemented(pattern: str) -> bool:
    """Return whether the compiler accepts a pattern. It may have look-ahead or be invalid."""
    return _compiles(json.dumps({"type": "string", "pattern": pattern}))


@lru_cache(maxsize=512)
def _compiles(schema: str) -> bool:
    """Return whether the compiler accepts a schema, as JSON."""
    try:
        return not _error(f"start: %json {schema}")
    except ValueError:  # a panic
        return False


@raises_panics
def _error(grammar: str) -> str:
    """Return the compiler's message, empty if it accepts the grammar."""
    return LLMatcher.validate_grammar(grammar)
