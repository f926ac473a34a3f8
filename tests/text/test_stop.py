"""The streamed answer is the one that a search of the whole text gives, however the text is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infrs.text.stop import StopMatcher

TEXT = st.text("abc", max_size=30)
STOPS = st.lists(st.text("abc", min_size=1, max_size=5), max_size=4).map(tuple)


def naive(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """Character by character: the first end of a stop string, and of those that end there the longest."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


def pieces(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[left:right] for left, right in pairwise(edges)]


@pytest.mark.nightly("stop strings, found")
@given(TEXT, STOPS, st.lists(st.integers(0, 30), max_size=10))
@example("aabab", ("abab",), [3])
@example("abcab", ("abcd", "bc"), [])
def test_streamed_text_ends_like_the_whole_text(text: str, stops: tuple[str, ...], cuts: list[int]) -> None:
    matcher, shown, stopped = StopMatcher(stops), "", False
    for piece in pieces(text, cuts):
        emitted, stopped = matcher.feed(piece)
        shown += emitted
    assert (shown + matcher.flush(), matcher.found) == naive(text, stops)
    assert stopped == (matcher.found is not None)


@pytest.mark.nightly("stop strings, held back")
@given(TEXT, STOPS)
def test_only_a_possible_prefix_is_withheld(text: str, stops: tuple[str, ...]) -> None:
    matcher, shown = StopMatcher(stops), ""
    for end, character in enumerate(text, 1):
        emitted, stopped = matcher.feed(character)
        shown += emitted
        if stopped:
            return
        held = text[len(shown) : end]
        assert not held or any(stop.startswith(held) for stop in stops)


def test_nothing_comes_after_the_stop() -> None:
    matcher = StopMatcher(("\nuser:",))
    assert matcher.feed("4.\nus") == ("4.", False)
    assert matcher.feed("er: and 3+3?") == ("", True)
    assert matcher.feed("more") == ("", True)
    assert matcher.flush() == ""


def test_without_stop_strings_no_text_is_withheld() -> None:
    assert StopMatcher(()).feed("text") == ("text", False)
