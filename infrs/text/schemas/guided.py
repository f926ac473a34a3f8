"""Convert a JSON schema for llguidance's compiler."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from llguidance import LLMatcher

from infrs.text.schemas.closing import closed
from infrs.text.schemas.tree import Node, rewrite, simplified

# Between JSON's tokens: nothing, a space, or a line break and an indent. Models would use any further whitespace.
_OPTIONS = {"whitespace_flexible": True, "whitespace_pattern": " |\\n {0,20}"}


def guided(schema: Any, *, lenient: bool = False) -> Node:  # noqa: ANN401  # any JSON
    """Build the operand of Lark's `%json`: the schema without neutral keywords and with closed objects.

    `lenient`: ignore keywords and patterns that the compiler does not implement.
    """
    schema = closed(rewrite(schema, _simplified_for_tools if lenient else simplified))
    if not isinstance(schema, dict):  # `true` and `false` are schemas too, but have no keywords
        schema = {"allOf": [schema]}
    options = {**_OPTIONS, "lenient": True, "coerce_one_of": True} if lenient else _OPTIONS
    return {**schema, "x-guidance": options}


def _simplified_for_tools(node: Node) -> Node:
    node = simplified(node)
    if isinstance(pattern := node.get("pattern"), str) and not _is_implemented(pattern):
        del node["pattern"]
    if isinstance(patterns := node.get("patternProperties"), dict):
        node["patternProperties"] = {name: child for name, child in patterns.items() if _is_implemented(name)}
    return node


@lru_cache(maxsize=256)
def _is_implemented(pattern: str) -> bool:
    """Return whether the compiler accepts a pattern. It may have look-ahead or be invalid."""
    grammar = f"start: %json {json.dumps({'type': 'string', 'pattern': pattern})}"
    return not LLMatcher.validate_grammar(grammar)
