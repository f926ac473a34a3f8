"""Patterns of pydantic and zod get an equivalent that the compiler has: what it matches, the old one matches too."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher

from infrs.text.schemas.guided import guided

DECIMAL = r"^(?!^[-+.]*$)[+-]?0*"
DURATION = r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$"
EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
HOSTNAME = (
    r"^(?=.{1,253}\.?$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[-0-9a-zA-Z]{0,61}[0-9a-zA-Z])?)*\.?$"
)
# pattern, texts that the new one still matches
PATTERNS = [
    (DECIMAL + r"\d*\.?\d*$", ["0", "-12.50", "+3."]),
    (DECIMAL + r"\d*\.?\d{0,2}0*$", ["0.05", "120"]),
    (DECIMAL + r"(?:\d{0,3}|(?=[\d.]{1,6}0*$)\d{0,3}\.\d{0,2}0*$)", ["123.45", "-1"]),
    (DECIMAL + r"(?:\d{0,5}|(?=[\d.]{1,6}0*$)\d*\.\d*0*$)", ["12345"]),
    (DECIMAL + r"(?:\d{0,0}|(?=[\d.]{1,3}0*$)\d{0,0}\.\d{0,2}0*$)", ["0.25"]),
    (EMAIL, ["a.b+c@mail.example.com"]),
    (DURATION, ["P3W", "P1Y2M3D", "PT1.5S", "P1DT2H"]),
    (HOSTNAME, ["a", "mail.example.com"]),
]


def rewritten(pattern: str) -> str:
    new: str = guided({"type": "string", "pattern": pattern})["pattern"]
    return new


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in PATTERNS])
@given(st.data())
def test_a_text_of_the_new_pattern_matches_the_old_one(pattern: str, data: st.DataObject) -> None:
    text = data.draw(st.from_regex(rewritten(pattern), fullmatch=True, alphabet=st.characters(codec="ascii")))
    assert re.search(pattern, text)


@pytest.mark.parametrize(("pattern", "texts"), PATTERNS)
def test_the_new_pattern_compiles_and_matches_usual_texts(pattern: str, texts: list[str]) -> None:
    new = rewritten(pattern)
    assert not LLMatcher.validate_grammar(f"start: %json {json.dumps({'type': 'string', 'pattern': new})}")
    assert [text for text in texts if not re.search(new, text)] == []


@pytest.mark.parametrize("pattern", ["^a+$", "(?=x)y", DECIMAL + "x"])
def test_other_patterns_stay(pattern: str) -> None:
    assert rewritten(pattern) == pattern
