"""Lengths and patterns of strings that a format writes without JSON."""

from __future__ import annotations

import re

import pytest

from infrs.text.tools.text_limits import string_limits, text_patterns


@pytest.mark.parametrize(
    ("schema", "matching", "other"),
    [
        ({"minLength": 2, "maxLength": 3}, ["ab", "a\nb"], ["a", "abcd"]),
        ({"minLength": 2}, ["ab", "a" * 99], ["a"]),
        ({"pattern": "b+"}, ["b", "abbc", "\nb\n"], ["", "ac"]),
        ({"pattern": "^[A-Z]{2}$"}, ["DE"], ["DEF", "de", "D"]),
        ({"pattern": "^a/b"}, ["a/b", "a/bc"], ["xa/b"]),
        ({"pattern": "5\\\\$"}, ["15\\"], ["5\\x"]),
        ({"pattern": "5\\$"}, ["5$", "15$x"], ["5"]),
        ({"pattern": "^(cat|dog)s?"}, ["cats", "dog"], ["a cat"]),
        ({"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 1}]}, ["a"], ["ab"]),
        ({"$ref": "#/$defs/code"}, ["ab"], ["abc"]),
    ],
    ids=str,
)
def test_text_that_a_schema_allows_matches(schema: dict[str, object], matching: list[str], other: list[str]) -> None:
    root = {"$defs": {"code": {"type": "string", "maxLength": 2}}}
    patterns = text_patterns(string_limits(schema, root, strict=True), strict=True)
    assert patterns
    assert [text for text in matching + other if all(re.fullmatch(each, text) for each in patterns)] == matching


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "string", "format": "date"},
        {"minLength": 0},
        {"anyOf": [{"maxLength": 1}, {"maxLength": 2}]},
        {"maxLength": 10**9},
        {"pattern": "(?=x)y"},
        {"pattern": "("},
        {"pattern": "^a|b$"},
    ],
    ids=str,
)
def test_limits_that_do_not_apply_are_left_out_if_the_tool_is_not_strict(schema: dict[str, object]) -> None:
    assert text_patterns(string_limits(schema, {}, strict=False), strict=False) == []
