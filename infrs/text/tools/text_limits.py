"""The length and the pattern of a string argument, for formats that write it without JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping

from infrs.text.schemas.guided import guided_leniently
from infrs.text.tools.argument_types import parts_of

KEYWORDS = ("minLength", "maxLength", "pattern")
_MAX_LENGTH = 100_000
_ANCHOR = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|([\^$])")


def string_limits(schema: object, root: object, *, strict: bool) -> dict[str, object]:
    """Return the keywords that limit a string; empty if there are none, or if they differ between alternatives.

    `strict`: keep a pattern that the grammar compiler does not implement, so that the compiler refuses it.
    """
    strings = [part for part in parts_of(schema, root) if part.keys() & {*KEYWORDS}]
    if len(strings) != 1:
        return {}
    limits = {keyword: strings[0][keyword] for keyword in KEYWORDS if keyword in strings[0]}
    return limits if strict else {key: value for key, value in guided_leniently(limits).items() if key in KEYWORDS}


def text_patterns(limits: Mapping[str, object], *, strict: bool) -> list[str]:
    """Return patterns that a text has to match, all of them, for a regex between slashes."""
    patterns = []
    least, most = limits.get("minLength", 0), limits.get("maxLength")
    if isinstance(most, int) and most <= _MAX_LENGTH:
        patterns.append(f"(?s:.{{{least},{most}}})")
    elif least:
        patterns.append(f"(?s:.{{{least},}})")
    if isinstance(pattern := limits.get("pattern"), str):
        whole = _whole(pattern)
        has_anchor = any(found[1] for found in _ANCHOR.finditer(whole))
        patterns += [whole] if strict or not has_anchor else []
    return [re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\\/", each).replace("\n", r"\n") for each in patterns]


def _whole(pattern: str) -> str:
    """Return a pattern that matches a whole text where the other is found in it."""
    is_grouped = "|" not in pattern
    starts, ends = pattern.startswith("^") and is_grouped, pattern.endswith("$") and is_grouped
    ends = ends and not re.search(r"(?<!\\)(?:\\\\)*\\\$\Z", pattern)
    inner = pattern[int(starts) : len(pattern) - int(ends)]
    return f"{'' if starts else '(?s:.*)'}(?:{inner}){'' if ends else '(?s:.*)'}"
