"""Keywords with values of the wrong form raise no error before the compiler refuses the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from infrs.text.schemas.guided import guided, guided_leniently

NAMES = ["a", "A", "#", "#/$defs/a", "9" * 5000, "#/allOf/" + "9" * 5000, "\ud800", "#/$defs/\ud800", "[", ""]
SCALARS = [None, True, False, 0, 1, -1, 1.5, 2.0, 1e308, 10**30, *NAMES]
VALUES = st.recursive(
    st.sampled_from([*SCALARS, {"type": "string"}, {"enum": ["a", "b"]}, {"type": ["null", 3]}]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(NAMES), children, max_size=2),
    max_leaves=6,
)
KEYWORDS = [
    "$defs",
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
]
NEIGHBOURS: dict[str, list[dict[str, Any]]] = {
    "uniqueItems": [{"type": "array", "items": {"enum": [1, 2]}}],
    "minItems": [{"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}],
    "maxItems": [{"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}],
    "items": [{"type": "array", "uniqueItems": True}],
    "required": [{"type": "object", "properties": {"a": {"const": 1}}}],
    "properties": [{"type": "object", "required": ["a"]}],
    "pattern": [{"type": "string"}],
}


@pytest.mark.parametrize("keyword", KEYWORDS)
@settings(max_examples=40)
@given(data=st.data())
def test_any_value_of_a_keyword(keyword: str, data: st.DataObject) -> None:
    node = data.draw(st.sampled_from([{}, *NEIGHBOURS.get(keyword, [])])) | {keyword: data.draw(VALUES)}
    other = data.draw(st.sampled_from([{}, {"type": "object", "required": ["a"], "properties": {"a": {"const": 2}}}]))
    shape = data.draw(st.sampled_from(["alone", "property", "branch", "names", "items"]))
    schema: dict[str, Any] = {
        "alone": node,
        "property": {"type": "object", "properties": {"a": node}},
        "branch": {"oneOf": [node, other]},
        "names": {"type": "object", "propertyNames": node},
        "items": {"type": "array", "items": node, "uniqueItems": True},
    }[shape]
    for make in (guided, guided_leniently):
        assert json.dumps(make(schema))


LISTED = {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}


@pytest.mark.parametrize("schema", [{**LISTED, "minItems": -1}, {**LISTED, "maxItems": -1}, {"$ref": "#/$defs/\ud800"}])
def test_a_value_out_of_range_is_left_to_the_compiler(schema: dict[str, Any]) -> None:
    assert LLMatcher.validate_grammar(f"start: %json {json.dumps(guided(schema))}")
