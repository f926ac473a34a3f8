"""Schemas without what asks for nothing, and closed: what was asked for stays, and stays possible."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher

from infrs.text.schemas import guided as guided_module
from infrs.text.schemas.closing import closed
from infrs.text.schemas.guided import guided, guided_leniently
from infrs.text.schemas.tree import rewrite, simplified
from infrs.text.tools.call_grammar import Tool, arguments_schema, honours_schema

INT = {"type": "integer"}


def fields(*names: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(names, INT), **more}


def holds(schema: Any, value: object) -> bool:
    return jsonschema.Draft202012Validator(closed(json.loads(json.dumps(schema)))).is_valid(value)


DEFS = {"$defs": {"a": fields("a"), "b": fields("b", required=["b"])}}
LIST = {"properties": {"v": INT, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["v"]}

# schema, values that it still has, values that it has no more
CLOSED: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "listed": (fields("a", "b"), [{}, {"a": 1}], [{"z": 1}]),
    "no type": ({"properties": {"a": INT}}, [{"a": 1}, 3], [{"z": 1}]),
    "nested": (
        {"properties": {"p": fields("a"), "q": {"items": fields("b")}}},
        [{"p": {"a": 1}, "q": [{"b": 1}]}],
        [{"p": {"z": 1}}, {"q": [{"z": 1}]}],
    ),
    "unlisted but required": (fields("a", required=["b"]), [{"a": 1, "b": "x"}], [{"b": 1, "z": 1}]),
    "patterns": (fields("a", patternProperties={"^x": INT}), [{"a": 1, "x1": 1}], [{"z": 1}]),
    "in definitions": (DEFS | {"items": {"$ref": "#/$defs/a"}}, [[{"a": 1}]], [[{"z": 1}]]),
    "recursive": (LIST, [{"v": 1, "next": {"v": 2}}], [{"v": 1, "next": {"v": 2, "z": 1}}]),
    "union": (DEFS | {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]}, [{"a": 1}, {"b": 1}], [{"z": 1}]),
    "one allOf": (DEFS | {"allOf": [{"$ref": "#/$defs/a"}], "description": "d"}, [{"a": 1}], [{"z": 1}]),
    "allOf": ({"allOf": [fields("a"), fields("b")]}, [{"a": 1, "b": 1}], [{"a": 1, "z": 1}]),
    "allOf and properties": (
        fields("c", allOf=[fields("a"), {"allOf": [fields("b")]}]),
        [{"a": 1, "b": 1, "c": 1}],
        [{"a": 1, "z": 1}],
    ),
    "ref and properties": (DEFS | fields("c") | {"$ref": "#/$defs/b"}, [{"b": 1, "c": 1}], [{"b": 1, "z": 1}]),
    "anyOf and properties": (fields("k", anyOf=[fields("a"), fields("b")]), [{"k": 1, "b": 1}], [{"k": 1, "z": 1}]),
    "anyOf of required": (
        fields("a", "b", anyOf=[{"required": ["a"]}, {"required": ["b"]}]),
        [{"b": 1}],
        [{"b": 1, "z": 1}],
    ),
    "shared property": (
        {"allOf": [{"properties": {"p": fields("a")}}, {"properties": {"p": fields("b")}}]},
        [{"p": {"a": 1, "b": 1}}],
        [{"z": 1}],
    ),
    "shared items": ({"allOf": [{"items": fields("a")}, {"items": fields("b")}]}, [[{"a": 1, "b": 1}]], []),
    "nothing unevaluated": (
        DEFS | {"allOf": [{"$ref": "#/$defs/a"}], "properties": {"c": INT}, "unevaluatedProperties": False},
        [{"a": 1, "c": 1}],
        [],
    ),
    "overlaid by patterns": (
        {"properties": {"pq": fields("a")}, "patternProperties": {"^p": fields("b")}},
        [{"pq": {"a": 1, "b": 1}}],
        [{"z": 1}],
    ),
}  # fmt: skip

OPEN: dict[str, tuple[Any, Any]] = {
    "lists none": ({"type": "object"}, {"z": 1}),
    "lists an empty one": (fields(), {"z": 1}),
    "says so": (fields("a", additionalProperties=True), {"z": 1}),
    "of a schema": (fields("a", additionalProperties=INT), {"z": 1}),
    "unevaluated": (fields("a", unevaluatedProperties={}), {"z": 1}),
    "allOf that says so": ({"allOf": [fields("a"), fields("b", additionalProperties=True)]}, {"a": 1, "z": 1}),
    "more than are listed": (fields("a", minProperties=2), {"a": 1, "z": 1}),
    "a reference to nothing": ({"allOf": [fields("a"), {"properties": {"p": {"$ref": "#/nowhere"}}}]}, {"a": 1}),
    "data": ({"enum": [{"properties": {"a": 1}}], "default": fields("a")}, {"properties": {"a": 1}}),
    "a property of that name": ({"properties": {"properties": {"type": "object"}}}, {"properties": {"z": 1}}),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed(name: str) -> None:
    schema, still, no_more = CLOSED[name]
    for value in (*still, *no_more):
        assert jsonschema.Draft202012Validator(schema).is_valid(value)
    assert [holds(schema, value) for value in still] == [True] * len(still)
    assert [holds(schema, value) for value in no_more] == [False] * len(no_more)


@pytest.mark.parametrize("name", OPEN)
def test_open(name: str) -> None:
    schema, value = OPEN[name]
    assert holds(schema, value)


NAMES = st.sampled_from("abcd")
VALUES = st.recursive(
    st.integers(0, 9),
    lambda inside: st.dictionaries(NAMES, inside, max_size=4) | st.lists(inside, max_size=2),
    max_leaves=12,
)


@st.composite
def describing(draw: st.DrawFn, value: object, defs: dict[str, Any]) -> dict[str, Any]:
    """Draw a schema that describes a value: in one or in several parts, which apply together."""
    if isinstance(value, list):
        return {"prefixItems": [draw(describing(item, defs)) for item in value], "minItems": len(value)}
    if not isinstance(value, dict):
        return {"type": "integer"}
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        names = draw(st.sets(st.sampled_from(sorted(value)))) if value else set()
        parts.append(names)
    parts[0] |= set(value).difference(*parts)
    schemas: list[Any] = [
        {"properties": {name: draw(describing(value[name], defs)) for name in names}, "required": sorted(names)}
        for names in parts
    ]
    for index, schema in enumerate(schemas):
        match draw(st.sampled_from(["plain", "ref", "anyOf", "allOf"])):
            case "ref":
                name = f"d{len(defs)}"
                defs[name] = schema
                schemas[index] = {"$ref": f"#/$defs/{name}"}
            case "anyOf":
                schemas[index] = {"anyOf": [{"properties": {"other": INT}, "required": ["other"]}, schema]}
            case "allOf":
                schemas[index] = {"allOf": [schema]}
    first, *others = schemas
    if not others:
        return dict(first)
    return {**first, "allOf": [*first.get("allOf", []), *others]} if draw(st.booleans()) else {"allOf": schemas}


@given(st.data())
def test_closed_schema_accepts_described_values(data: st.DataObject) -> None:
    value = data.draw(VALUES)
    defs: dict[str, Any] = {}
    schema = {**data.draw(describing(value, defs)), "$defs": defs}
    assert jsonschema.Draft202012Validator(schema).is_valid(value)
    assert holds(schema, value)


NEUTRAL: list[dict[str, Any]] = [
    {"propertyNames": {"type": "string"}},
    {"propertyNames": {"description": "d"}},
    {"propertyNames": True},
    {"uniqueItems": False},
    {"unevaluatedProperties": True},
    {"unevaluatedItems": {}},
    {"not": False},
    {"if": {"minLength": 2}},
    {"then": {"minLength": 2}, "else": False},
    {"if": {"minLength": 2}, "then": {}, "else": True},
    {"dependentRequired": {}},
    {"dependentRequired": {"a": []}},
    {"dependentSchemas": {"a": True}},
    {"contains": {"type": "string"}, "minContains": 0},
    {"minContains": 2},
    {"$dynamicAnchor": "node"},
    {"format": "password"},
    {"format": "regex"},
    {"minLength": None, "enum": None, "properties": None, "$ref": None},
    {"$schema": "https://example.com/dialect"},
    {"x-order": 3},
]
ASKING: list[dict[str, Any]] = [
    {"propertyNames": {"pattern": "^a"}},
    {"propertyNames": {"type": "integer"}},
    {"propertyNames": False},
    {"uniqueItems": True},
    {"unevaluatedProperties": False},
    {"not": {}},
    {"if": {"minLength": 2}, "then": {"maxLength": 3}},
    {"dependentRequired": {"a": ["b"]}},
    {"contains": {}, "minContains": 1},
    {"contains": {}, "minContains": 0, "maxContains": 1},
]


@pytest.mark.parametrize("keywords", NEUTRAL, ids=json.dumps)
def test_neutral_keywords_are_removed(keywords: dict[str, Any]) -> None:
    nested = {"properties": {"p": {"items": keywords}}, "$defs": {"d": keywords}}
    rewritten = rewrite(nested, simplified)
    assert rewritten["properties"]["p"]["items"].keys() <= {"x-order"}
    assert rewritten["$defs"]["d"].keys() <= {"x-order"}


@pytest.mark.parametrize("keywords", ASKING, ids=json.dumps)
def test_other_keywords_are_kept(keywords: dict[str, Any]) -> None:
    assert simplified(keywords) == keywords


def test_names_and_data_are_no_keywords() -> None:
    schema = {
        "properties": {"propertyNames": {"type": "string"}, "uniqueItems": False},
        "enum": [{"uniqueItems": False}],
    }
    assert rewrite(schema, simplified) == schema


def test_counts_are_whole() -> None:
    assert simplified({"maxLength": 2.0, "minItems": 0.0, "maximum": 2.5}) == {
        "maxLength": 2,
        "minItems": 0,
        "maximum": 2.5,
    }


def test_references_are_uris() -> None:
    assert simplified({"$ref": "#/$defs/Box[int]"}) == {"$ref": "#/$defs/Box%5Bint%5D"}
    assert simplified({"$ref": "#/$defs/Box%5Bint%5D"}) == {"$ref": "#/$defs/Box%5Bint%5D"}


IMPOSSIBLE: list[Any] = [
    {"enum": []},
    {"type": "integer", "const": "x"},
    {"type": "strin"},
    {"minimum": 3, "maximum": 1, "type": "integer"},
    {"type": "string", "minLength": 3, "maxLength": 1},
    {"type": "string", "minLength": -1},
    {"type": "string", "maxLength": 2.5},
    {"type": "array", "items": 5},
    {"$ref": "#/$defs/none"},
    {"$ref": "https://example.com/schema"},
    {"type": "object", "properties": {"a": False}, "required": ["a"]},
    {"patternProperties": {"a": {}, "b": {}}},
    fields("a", "b", minProperties=2, additionalProperties=False),
    {"allOf": [INT, {"type": "string"}]},
    {"anyOf": []},
    False,
]


@pytest.mark.parametrize("child", IMPOSSIBLE, ids=json.dumps)
def test_a_property_that_cannot_be_compiled_takes_any_value_where_lenient(child: Any) -> None:
    schema = {"type": "object", "properties": {"good": INT, "bad": child}, "required": ["good", "bad"]}
    prepared = guided_leniently(schema)
    assert not LLMatcher.validate_grammar(f"start: %json {json.dumps(prepared)}")
    assert prepared["properties"] == {"good": INT, "bad": True}
    assert prepared["required"] == ["good", "bad"]


@pytest.mark.parametrize("keywords", [child for child in IMPOSSIBLE if isinstance(child, dict)], ids=json.dumps)
def test_a_schema_that_cannot_be_compiled_is_an_object_where_lenient(keywords: dict[str, Any]) -> None:
    prepared = guided_leniently({"type": "object", **keywords})
    assert not LLMatcher.validate_grammar(f"start: %json {json.dumps(prepared)}")


@pytest.mark.parametrize("pattern", ["^(?!a)b", "(?<=x)", r"(a)\1", r"\bword\b", "(", "[z-a]"])
def test_patterns_that_cannot_be_compiled_are_dropped_where_lenient(pattern: str) -> None:
    schema = {"type": "string", "pattern": pattern, "maxLength": 5}
    assert "pattern" not in guided_leniently(schema)
    assert guided(schema)["pattern"] == pattern
    assert guided_leniently({"pattern": "^a+$"})["pattern"] == "^a+$"


def test_entangled_references_stay_open_in_bounded_time() -> None:
    chain = {str(index): {"$ref": f"#/$defs/{index + 1}", "required": ["a"]} for index in range(2000)}
    schema = {"properties": {"a": {}}, "$ref": "#/$defs/0", "$defs": chain}
    assert "additionalProperties" not in closed(schema)


def test_schema_of_a_tool_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the grammar of its calls, and for the names of the tools that the grammar honours in part."""
    prepared = []

    def counted(schema: Any) -> Any:
        prepared.append(schema)
        return closed(schema)

    monkeypatch.setattr(guided_module, "closed", counted)
    tool = Tool("f", "", {"properties": {"prepared once": {"type": "string", "maxLength": 3}}})
    assert arguments_schema(tool)["properties"]["prepared once"]["maxLength"] == 3
    assert honours_schema(tool)
    assert len(prepared) == 1
