"""Formats of strings that the compiler lacks: its grammar takes values of the format, and no others."""

from __future__ import annotations

import json

import pytest
from llguidance import LLMatcher, LLTokenizer

from infrs.text.schemas.guided import guided

BYTES = LLTokenizer("byte")
# format, values, other texts. The examples are those of the RFCs, or break one of their rules.
CASES = {
    "json-pointer": (["", "/", "/foo/0", "/a~1b", "/m~0n", "/ ", "/é", "//"], ["a", "/~", "/~2", "#/a"]),
    "relative-json-pointer": (["0", "1/0", "0#", "12/a~1b"], ["", "/a", "01", "-1/a", "0##"]),
    "uri-reference": (
        [
            "",
            "a/b?x=1#f",
            "../a",
            "//host:80/a",
            "#top",
            "http://u@a.b:8/c?d=/e",
            "mailto:a@b.c",
            "urn:a:b",
            "./a:b",
            "%41",
        ],
        ["a b", "\\\\share", "1:a", "#a#b", "%4", "http://a.b:x/", "é", "[a]", "a:b\n"],
    ),
    "iri": (["http://bücher.example/é?é#é", "urn:a", "http://a.b/😀"], ["é", "/a", "", "http://a b", "http://a.b:x"]),
    "iri-reference": (["é/ü", "#é", "http://bücher.example"], ["a b", "1:é", "<é>"]),
    "uri-template": (
        ["", "/a/{b}", "{?x,y*}", "{+p:30}/é", "{#a.b}", "http://a.b/{/id*}{&z}", "%41"],
        ["{", "}", "{}", "{a b}", "{a:0}", "{a:10000}", "{=a}", "a b", '"', "%4"],
    ),
    "idn-hostname": (
        ["a", "bücher.example", "例え.jp", "a-b.c1"],
        ["", "-a", "a-", "a..b", "a_b", "a.", "Ö.de", "a b"],
    ),
    "idn-email": (
        ["a@b.c", "é.ü+x@bücher.example", "用户@例え.jp"],
        ["", "a", "@b.c", "a.@b.c", "a@", "a b@c.d", "a@@b"],
    ),
}


def takes(schema: dict[str, object], text: str) -> bool:
    """Return whether the grammar of a schema takes the JSON of a text, to its end."""
    matcher = LLMatcher(BYTES, f"start: %json {json.dumps(guided(schema))}", log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = BYTES.tokenize_str(json.dumps(text, ensure_ascii=False))
    return matcher.try_consume_tokens(tokens) == len(tokens) and bool(matcher.is_accepting())


@pytest.mark.parametrize("name", CASES)
def test_a_format_takes_its_values_and_no_others(name: str) -> None:
    values, others = CASES[name]
    schema: dict[str, object] = {"type": "string", "format": name}
    assert [text for text in values if not takes(schema, text)] == []
    assert [text for text in others if takes(schema, text)] == []


@pytest.mark.parametrize(
    ("schema", "value", "other"),
    [
        ({"pattern": "b$"}, "/ab", "/a"),
        ({"pattern": "b$", "allOf": [{"pattern": "^/c"}]}, "/cb", "/ab"),
        ({"maxLength": 2}, "/a", "/ab"),
        ({"minLength": 3}, "/ab", "/a"),
        ({"enum": ["/a", "b"]}, "/a", "b"),
    ],
)
def test_a_format_holds_with_other_keywords(schema: dict[str, object], value: str, other: str) -> None:
    whole = {"type": "string", "format": "json-pointer", **schema}
    assert takes(whole, value)
    assert not takes(whole, other)


def test_the_format_of_regular_expressions_is_an_annotation() -> None:
    assert takes({"type": "string", "format": "regex"}, "(")
