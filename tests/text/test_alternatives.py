"""Patterns of many words match as a list of alternatives does, but in linear time."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.text.alternatives import any_of

WORD = st.text("ab<|.*\\", max_size=6)


@given(st.lists(WORD, max_size=12), st.text("ab<|.*\\", max_size=40))
def test_the_longest_word_matches_at_each_place(words: list[str], text: str) -> None:
    listed = sorted(filter(None, words), key=len, reverse=True)
    plain = re.compile("|".join(map(re.escape, listed)) or "(?!)")
    assert re.findall(any_of(words), text) == plain.findall(text)


@pytest.mark.parametrize("step", ["a", "ab", "<|x|>"])
def test_words_that_begin_each_other_are_no_deep_pattern(step: str) -> None:
    words = [step * count for count in range(1, 200)]
    assert re.findall(any_of(words), f"{step * 60}-{step * 300}") == [step * 60, step * 199, step * 101]


def test_beginnings_of_many_tokens_take_little_time() -> None:
    pattern = re.compile(any_of([f"<unused{number}>" for number in range(6_000)]))
    text = "<unused9" * 50_000
    begin = time.thread_time()
    assert pattern.search(text) is None
    assert time.thread_time() - begin < 0.3  # 1.2 s with a list of alternatives
