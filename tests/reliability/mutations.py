"""Damaged inputs, made of good ones, for hypothesis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged_bytes(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed with some pieces cut out, repeated, overwritten or put in from elsewhere."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        match draw(st.sampled_from(["overwrite", "insert", "cut", "end", "repeat"])):
            case "overwrite":
                data[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
            case "insert":
                data[start:start] = draw(st.binary(max_size=16))
            case "cut":
                del data[start:end]
            case "end":
                del data[start:]
            case "repeat":
                data[start:start] = data[start:end] * draw(st.integers(1, 50))
    return bytes(data)


@st.composite
def damaged_json(draw: st.DrawFn, seeds: Sequence[Any]) -> bytes:
    """Return a seed with changed, missing or duplicate values; sometimes with damaged bytes too."""
    value = json.loads(json.dumps(draw(st.sampled_from(seeds))))
    for _ in range(draw(st.integers(1, 3))):
        if isinstance(value, dict | list):
            _damage(draw, value)
    data = json.dumps(value).encode()
    return draw(damaged_bytes([data])) if draw(st.integers(0, 9)) == 0 else data


def _damage(draw: st.DrawFn, value: Any) -> None:
    """Change one value, on a random way down."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        child = value[key]
        if isinstance(child, dict | list) and child and draw(st.integers(0, 4)):
            value = child
            continue
        if draw(st.booleans()):
            value[key] = draw(JSON)
        elif isinstance(value, list):
            value.insert(0, child)
        else:
            del value[key]
        return
