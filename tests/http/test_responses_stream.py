"""The joined events of a response equal the response without streaming, with the real engine on a synthetic graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server
from hypothesis import given
from hypothesis import strategies as st
from test_constrained_route import SCHEMA
from test_responses_route import events
from test_stream_equals_whole import EXAMPLES, QUIET, SAMPLING, optional

TOOL = {"type": "function", "name": "add", "parameters": SCHEMA}
FORM = {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA}}


@pytest.fixture(scope="module")
def real() -> Iterator[FakeServer]:
    with fake_server(engine="synthetic", rows=4, capacity=1024, max_queue=64, server=QUIET) as running:
        yield running


def without_what_is_new(response: dict[str, Any]) -> dict[str, Any]:
    """But for ids, times and what an earlier request left in the cache."""
    received = {name: value for name, value in response.items() if name not in ("id", "created_at", "completed_at")}
    received["usage"] = {**received["usage"], "input_tokens_details": None}
    received["output"] = [
        {name: value for name, value in item.items() if name not in ("id", "call_id")} for item in received["output"]
    ]
    return received


def joined(received: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, list[Any]]]:
    """Return the joined deltas of each item: text or arguments, and log-probabilities."""
    items: dict[int, tuple[str, list[Any]]] = {}
    for name, data in received:
        if name.endswith(".delta"):
            text, logprobs = items.get(data["output_index"], ("", []))
            items[data["output_index"]] = text + data["delta"], logprobs + data.get("logprobs", [])
    return [items.get(index, ("", [])) for index in range(max(items, default=-1) + 1)]


def shown(item: dict[str, Any]) -> tuple[str, list[Any]]:
    if item["type"] == "function_call":
        return item["arguments"], []
    return item["content"][0]["text"], item["content"][0].get("logprobs", [])


@EXAMPLES
@given(
    fields=optional(
        temperature=SAMPLING["temperature"],
        top_p=SAMPLING["top_p"],
        top_logprobs=st.integers(0, 3),
        include=st.just(["message.output_text.logprobs"]),
        max_output_tokens=st.integers(1, 80),
        instructions=st.text("abc é", max_size=4),
        text=st.just(FORM),
        tools=st.just([TOOL]),
        tool_choice=st.sampled_from(["none", "auto"]),
        parallel_tool_calls=st.booleans(),
        store=st.booleans(),
    ),
    content=st.text("abcdefgh é😀", max_size=8),
    requires=st.booleans(),
)
def test_events_join_to_the_whole(real: FakeServer, fields: dict[str, Any], content: str, requires: bool) -> None:
    fields = {"model": MODEL, "input": content, "max_output_tokens": 40, "temperature": 0, **fields}
    if requires and "tools" in fields:
        fields["tool_choice"] = "required"
    if fields["temperature"]:  # nothing seeds a response, and only greedy answers are the same twice
        fields["top_p"] = 1e-9
    answer = real.post("/v1/responses", **fields)
    if answer.status == 400:  # calls of this model are bare objects, as the form is
        assert answer.error[2] == "text.format"
        assert "tools" in fields
        return
    whole = answer.json
    received = events(real.post("/v1/responses", **fields, stream=True).body)
    final = received[-1][1]["response"]
    assert received[-1][0] == f"response.{final['status']}"
    assert without_what_is_new(final) == without_what_is_new(whole)
    pieces = joined(received)
    assert pieces + [("", [])] * (len(final["output"]) - len(pieces)) == [shown(item) for item in final["output"]]
    assert [data["sequence_number"] for _, data in received] == list(range(len(received)))
    kept = real.get(f"/v1/responses/{final['id']}")
    assert (kept.status, fields.get("store") is False) in ((200, False), (404, True))
    assert kept.status == 404 or kept.json == final
