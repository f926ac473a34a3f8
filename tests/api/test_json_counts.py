"""A body with too many objects, strings or elements is refused before it is parsed.

A parser and a validator hold the interpreter lock, so that all other requests wait for them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis
import orjson
import pytest
from hypothesis import strategies as st

from infrs.api.common import strict_json
from infrs.api.common.strict_json import MAX_COMMAS, MAX_CONTAINERS, MAX_STRINGS, parse_object
from infrs.api.common.tools import parse_arguments
from infrs.errors import RequestError
from infrs.native import json_counts
from infrs.native.json_counts import count_parts

LIMITS = {"containers": "MAX_CONTAINERS", "strings": "MAX_STRINGS", "commas": "MAX_COMMAS"}
TEXTS = st.text(alphabet='[]{},:"\\\nä ab')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


def counts(value: Any) -> Counter[str]:
    """Count the parts of a JSON value by walking it."""
    if isinstance(value, str):
        return Counter(strings=1)
    if not isinstance(value, list | dict):
        return Counter()
    children = [*value.values(), *value] if isinstance(value, dict) else value
    own = Counter(containers=1, commas=max(len(value) - 1, 0))
    return sum(map(counts, children), own)


@hypothesis.given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_the_counts_are_those_of_the_parsed_value(value: dict[str, Any]) -> None:
    found = counts(value)
    body = orjson.dumps(value)
    with pytest.MonkeyPatch.context() as patch:
        for kind, limit in LIMITS.items():
            patch.setattr(strict_json, limit, found[kind])
        assert parse_object(body) == value
        for kind, limit in LIMITS.items():
            if found[kind]:
                patch.setattr(strict_json, limit, found[kind] - 1)
                with pytest.raises(RequestError) as refused:
                    parse_object(body)
                assert refused.value.code == "json_too_large"
                assert (
                    f"{found[kind]} {'arrays and objects' if kind == 'containers' else kind} are more"
                    in refused.value.message
                )
                patch.setattr(strict_json, limit, found[kind])


@pytest.mark.skipif(json_counts._in_library() is None, reason="infrs is installed without its library")
@hypothesis.given(st.lists(st.sampled_from([b"\\", b'"', b"[", b"]", b"{", b",", b"a", b"\0", b"\xff"])).map(b"".join))
def test_the_library_counts_as_python_does(text: bytes) -> None:
    assert count_parts(text) == json_counts._count_in_python(text)


DEEP = b"[" * 50 + b"]" * 50
HOSTILE = {
    "deep lists": b'{"a":[' + b",".join([DEEP] * 40_000) + b"]}",
    "empty lists": b'{"a":[' + b",".join([b"[]"] * 1_300_000) + b"]}",
    "empty objects": b'{"a":[' + b",".join([b"{}"] * 1_300_000) + b"]}",
    "messages": b'{"messages":[' + b",".join([b'{"role":"user"}'] * 100_000) + b"]}",
    "keys": b"{" + b",".join(b'"k%d":0' % number for number in range(300_000)) + b"}",
    "strings": b'{"stop":[' + b",".join([b'""'] * 1_300_000) + b"]}",
    "escapes": b'{"a":[' + b",".join([rb'"\"["'] * 500_000) + b"]}",
    "numbers": b'{"stop_token_ids":[' + b",".join([b"1"] * 2_000_000) + b"]}",
    "open brackets": b"[" * 4_000_000,
    "quotes": b'"' * 4_000_000,
    "commas": b"," * 4_000_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_body_is_refused_before_it_is_parsed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_: bytes) -> None:
        pytest.fail("the body is parsed")

    monkeypatch.setattr("orjson.loads", parse)
    with pytest.raises(RequestError) as refused:
        parse_object(HOSTILE[kind])
    assert refused.value.code == "json_too_large"
    assert "; split it into several requests" in refused.value.message


@pytest.mark.parametrize("text", ["[{,", '",', '\\"[', "\\", '"'])
def test_text_counts_as_one_string(text: str) -> None:
    body = {"messages": [{"role": "user", "content": text * 1_000_000}]}
    assert parse_object(orjson.dumps(body)) == body


@pytest.mark.parametrize(
    ("item", "most"), [(b"[]", MAX_CONTAINERS - 2), (b'""', MAX_STRINGS - 1), (b"7", MAX_COMMAS + 1)]
)
def test_the_largest_list_of_each_kind(item: bytes, most: int) -> None:
    body = b'{"a":[%s]}'
    assert len(parse_object(body % b",".join([item] * most))["a"]) == most
    with pytest.raises(RequestError) as refused:
        parse_object(body % b",".join([item] * (most + 1)))
    assert refused.value.code == "json_too_large"


def test_the_arguments_of_a_call_have_the_same_limits() -> None:
    assert parse_arguments('{"a": [[], []]}') == {"a": [[], []]}
    with pytest.raises(
        RequestError, match="the arguments of a call: 1,300,002 arrays and objects are more than the limit"
    ) as refused:
        parse_arguments(HOSTILE["empty lists"].decode())
    assert refused.value.code == "json_too_large"
