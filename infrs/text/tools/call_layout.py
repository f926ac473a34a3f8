"""Layouts: the fixed text between the values of a call, with the line breaks that chat templates write."""

from __future__ import annotations

import re
from collections.abc import Iterable

from infrs.text.tools.call_grammar import Lark, Text

BREAK = "\n?"  # in a layout: a line break that some templates write
SPACE = r"\s{0,16}"  # in a pattern: white space between tags
MAX_TAG = 512  # characters of a tag with the white space around it


def plain(layout: str) -> str:
    """Return a layout without the line breaks around its tags."""
    return layout.replace(BREAK, "").strip()


def flexible(layout: str) -> str:
    """Return the pattern of a layout with any white space between its tags."""
    tags = [re.escape(tag) for tag in layout.replace(BREAK, "\n").split("\n") if tag]
    return SPACE + SPACE.join(tags)


def squeezed(text: str) -> str:
    """Return a layout or a text without white space."""
    return "".join(text.replace(BREAK, "").split())


def may_become(text: str, tags: Iterable[str]) -> bool:
    """Return whether a text can be the start of a tag, with any white space."""
    start = squeezed(text[:MAX_TAG])
    return len(text) < MAX_TAG and any(squeezed(tag).startswith(start) for tag in tags)


def pieces(layout: str, tokens: Iterable[str]) -> Text:
    """Split a layout at its line breaks and at the texts that can be control tokens.

    A line break is a piece of its own, because a lexer without backtracking reads the longest text that fits.
    """
    borders = "|".join(re.escape(each) for each in (BREAK, "\n", *sorted(tokens, key=len, reverse=True)))
    parts = [part for part in re.split(f"({borders})", layout) if part]
    return tuple(Lark(r"/\n?/") if part == BREAK else part for part in parts)


def regex(text: str) -> str:
    """Return the pattern of a text, for a regex between slashes."""
    return re.escape(text).replace("/", r"\/").replace("\n", "n")
