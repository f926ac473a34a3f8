"""JSON schemas that are supported, and constraints that are refused."""

from __future__ import annotations

import json
from typing import Any


def _object(required: bool = True, **properties: Any) -> dict[str, Any]:
    names = list(properties) if required else []
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


TEXT, WHOLE = {"type": "string", "maxLength": 12}, {"type": "integer"}

SCHEMAS: dict[str, Any] = {
    "string": {"type": "string"},
    "short string": {"type": "string", "minLength": 3, "maxLength": 5},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "open pattern": {"type": "string", "pattern": "[0-9]", "maxLength": 10},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "date-time": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "email": {"type": "string", "format": "email"},
    "JSON pointer": {"type": "string", "format": "json-pointer"},
    "short reference": {"type": "string", "format": "uri-reference", "maxLength": 30},
    "integer": {"type": "integer"},
    "bounded integer": {"type": "integer", "minimum": -7, "maximum": 120},
    "exclusive bounds": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
    "number": {"type": "number", "minimum": 0, "maximum": 1},
    "multiple": {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 1000},
    "multiples": {"anyOf": [{"multipleOf": 0.01}, {"type": "integer", "multipleOf": 86_400}, {"multipleOf": 1e6}]},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "enum": {"enum": ["red", "green", 3, None, {"a": 1}]},
    "unicode enum": {"enum": ["é", "日本語", "😀", 'quote"\\']},
    "const": {"const": {"version": 2}},
    "types": {"type": ["integer", "null"]},
    "array": {"type": "array", "items": {"type": "integer"}, "maxItems": 5},
    "sized array": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    "tuple": {"type": "array", "prefixItems": [WHOLE, TEXT], "items": False, "minItems": 2},
    "object": _object(name=TEXT, age=WHOLE),
    "optional": _object(required=False, a=WHOLE, b=TEXT, c={"type": "boolean"}),
    "open object": {"type": "object", "properties": {"a": WHOLE}, "required": ["a"], "maxProperties": 3},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^n_": {"type": "integer"}},
        "additionalProperties": False,
    },
    "nested": _object(person=_object(name=TEXT, tags={"type": "array", "items": TEXT, "maxItems": 2}), ok=WHOLE),
    "anyOf": {"anyOf": [_object(circle=WHOLE), _object(square=TEXT)]},
    "tagged oneOf": {"oneOf": [_object(kind={"const": "cat"}, lives=WHOLE), _object(kind={"const": "dog"}, name=TEXT)]},
    "tagged oneOf of definitions": {
        "$defs": {
            "cat": _object(kind={"const": "cat", "type": "string"}, lives=WHOLE),
            "dog": _object(kind={"enum": ["dog", "wolf"], "type": "string"}, name=TEXT),
        },
        "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}, {"type": "null"}],
    },
    "allOf": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]},
    "refs": {
        "$ref": "#/$defs/line",
        "$defs": {"point": _object(x=WHOLE, y=WHOLE), "line": _object(a={"$ref": "#/$defs/point"})},
    },
    "definitions": {"definitions": {"d": WHOLE}, "type": "array", "items": {"$ref": "#/definitions/d"}, "maxItems": 2},
    "recursive": {
        "$ref": "#/$defs/node",
        "$defs": {"node": _object(v=WHOLE, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})},
    },
    "names of an enum": {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": WHOLE},
    "names of a definition": {
        "$defs": {"colour": {"type": "string", "enum": ["red", "blue"]}},
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/colour"},
        "additionalProperties": WHOLE,
    },
    "names of a pattern": {"type": "object", "propertyNames": {"pattern": "^[ab]$"}, "additionalProperties": WHOLE},
    "names of a length": {"type": "object", "propertyNames": {"minLength": 1, "maxLength": 2}},
    "names of a format": {"type": "object", "propertyNames": {"format": "uuid"}, "additionalProperties": WHOLE},
    "distinct items": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True},
    "distinct items of a size": {
        "type": "array",
        "items": {"enum": list("abcdefghijkl")},
        "uniqueItems": True,
        "minItems": 2,
        "maxItems": 2,
    },
    "distinct booleans": {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 1},
    "distinct equal numbers": {"type": "array", "items": {"enum": [1, 1.0, 2]}, "uniqueItems": True, "minItems": 1},
    "one distinct item": {"type": "array", "items": TEXT, "uniqueItems": True, "maxItems": 1},
    "nothing unevaluated": {"type": "object", "properties": {"a": WHOLE}, "unevaluatedProperties": False},
    "nothing unevaluated in parts": {
        "allOf": [{"properties": {"a": WHOLE}, "required": ["a"]}],
        "type": "object",
        "properties": {"b": WHOLE},
        "unevaluatedProperties": False,
    },
    "unevaluated items": {"type": "array", "prefixItems": [WHOLE], "unevaluatedItems": False},
    "bounds of 64 bits": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "huge bounds": {"type": "number", "minimum": -1e308, "maximum": 1e308},
    "bounds that no answer reaches": {"type": "array", "items": WHOLE, "minItems": 1, "maxItems": 2**31 - 1},
    "unknown dialect": {"$schema": "https://example.com/dialect", "type": "integer"},
    "anything": {},
    "true": True,
    "annotations": {"title": "T", "description": "d", "default": 1, "examples": [2], "type": "integer"},
    "odd keys": _object(**{"a b": WHOLE, 'q"': WHOLE, "é": WHOLE}),
}


def _schema(value: Any, code: str, words: str) -> tuple[str, str, str, str]:
    return "json_schema", value if isinstance(value, str) else json.dumps(value), code, words


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


_DOUBLING = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i - 1}"}] * 2} for i in range(1, 60)}
_CHAIN = {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(7000)}
_PATTERNS = {"anyOf": [{"type": "string", "pattern": f"a{i}"} for i in range(12)]}

# kind, text, code, words of the message
REFUSED: list[tuple[str, str, str, str]] = [
    _schema({"type": "array", "uniqueItems": True}, "unsupported_schema", '"uniqueItems"'),
    _schema({"not": {"type": "string"}}, "unsupported_schema", '"not"'),
    _schema({"if": {}, "then": {"minLength": 2}}, "unsupported_schema", '"if", "then"'),
    _schema({"type": "object", "properties": {"a": {"contains": {}}}}, "unsupported_schema", '"contains"'),
    _schema({"dependentRequired": {"a": ["b"]}}, "unsupported_schema", '"dependentRequired"'),
    _schema({"anyOf": [{}], "unevaluatedProperties": False}, "unsupported_schema", '"unevaluatedProperties"'),
    _schema({"propertyNames": {"format": "email"}}, "unsupported_schema", '"propertyNames"'),
    _schema({"properties": {"a": {}}, "propertyNames": {"pattern": "b"}}, "unsupported_schema", '"propertyNames"'),
    _schema({"type": "array", "items": {"enum": [*range(9)]}, "uniqueItems": True}, "unsupported_schema", "unique"),
    _schema({"oneOf": [{"type": "string"}, {"minLength": 2, "type": "string"}]}, "unsupported_schema", '"oneOf"'),
    _schema(
        {"oneOf": [_object(kind={"const": "a"}, x=WHOLE), _object(kind={"enum": ["a", "b"]}, x=WHOLE)]},
        "unsupported_schema",
        '"oneOf"',
    ),
    _schema({"type": "strin"}, "invalid_schema", "Invalid type"),
    _schema({"type": 5}, "invalid_schema", "type must be"),
    _schema({"$ref": "http://127.0.0.1:9/schema"}, "invalid_schema", "not present|not fetch"),
    _schema({"$ref": "#/$defs/none"}, "invalid_schema", "cannot be used"),
    _schema({"enum": []}, "invalid_schema", "Unsatisfiable"),
    _schema(False, "invalid_schema", "Unsatisfiable"),
    _schema({"type": "number", "multipleOf": 0}, "invalid_schema", "multiple"),
    _schema({"type": "string", "minLength": 5, "maxLength": 2}, "invalid_schema", "minLength"),
    _schema({"type": "string", "pattern": "(?<=x)"}, "unsupported_schema", '"pattern".*look'),
    _schema({"type": "string", "pattern": r"(a)\1"}, "unsupported_schema", '"pattern".*backreferences'),
    _schema({"type": "string", "pattern": r"\bx"}, "unsupported_schema", r'"pattern".*\\b'),
    _schema({"patternProperties": {"a": {}, "b": {}}}, "unsupported_schema", '"patternProperties"'),
    _schema({"type": "number", "minimum": 10**19}, "unsupported_schema", '"minimum"'),
    _schema(_object(required=False, a=WHOLE, b=WHOLE) | {"minProperties": 2}, "unsupported_schema", '"minProperties"'),
    _schema({"type": "string", "pattern": "(" * 60_000}, "invalid_schema", "unclosed"),
    _schema("nope", "invalid_schema", "not valid JSON"),
    _schema("[" * 200_000, "invalid_schema", "not valid JSON"),
    _schema([1], "invalid_schema", "object or boolean"),
    _schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "schema_recursive", "back to itself"),
    _schema(
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "schema_recursive",
        "back to itself",
    ),
    _schema({"type": "string", "minLength": 10**9}, "schema_too_complex", "minLength"),
    _schema({"type": "array", "minItems": 10**9}, "schema_too_complex", "minItems"),
    _schema({"type": "integer", "multipleOf": -1613441}, "schema_too_complex", "multipleOf"),  # compiling it takes 20 s
    _schema({"type": "number", "multipleOf": 12345.678}, "schema_too_complex", "multipleOf"),
    _schema({"anyOf": [{"multipleOf": 9973}, {"multipleOf": 1.009}]}, "schema_too_complex", "multipleOf"),
    _schema({"type": "integer", "multipleOf": 10**400}, "invalid_schema", "out of range"),
    _schema(_nested(65), "schema_too_complex", "64 levels"),
    _schema({"properties": {f"p{i}": {} for i in range(10_000)}}, "schema_too_complex", "10000 properties"),
    _schema({"enum": [f"v{i}" for i in range(20_000)]}, "schema_too_complex", "enum"),
    _schema({"enum": [f"v{i}" for i in range(100_000)]}, "schema_too_complex", "characters"),
    _schema({"anyOf": [{"const": i} for i in range(1000)]}, "schema_too_complex", "branches"),
    _schema({"allOf": [_PATTERNS] * 4}, "schema_too_complex", "combinations"),
    _schema({"allOf": [{"properties": {"a": _PATTERNS}}] * 4}, "schema_too_complex", "combinations"),
    _schema({"$ref": "#/$defs/a59", "$defs": {"a0": {}, **_DOUBLING}}, "schema_too_complex", "combinations"),
    _schema(
        {"$ref": "#/$defs/0", "$defs": _CHAIN}, "schema_too_complex", "combinations"
    ),  # compiling it takes a minute
    ("regex", "", "invalid_grammar", "nothing"),
    ("regex", "(?<=x)", "invalid_grammar", "regex"),
    ("regex", "(" * 60_000, "invalid_grammar", "cannot be used"),
    ("regex", "[z-a]", "invalid_grammar", "regex"),
    ("choice", "[]", "invalid_grammar", "nothing"),
    ("grammar", "", "invalid_grammar", "grammar"),
    ("grammar", "root ::= (", "invalid_grammar", "Expected"),
    ("grammar", "root ::= " + "(" * 5000, "invalid_grammar", "cannot be read"),
    ("grammar", "root ::= root", "invalid_grammar", "no text"),
    ("grammar", "start: missing", "invalid_grammar", "missing"),
]
