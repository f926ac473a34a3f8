"""Forced calls that are not JSON objects: from the grammar to the client's arguments, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fake_process import FakeServer, fake_server
from test_stream_equals_whole_tools import chat_both_ways, user

from infrs.text.tools.formats import FORMATS
from infrs.text.tools.json_format import JsonFormat

SCHEMAS: dict[str, dict[str, Any]] = {
    "add": {
        "type": "object",
        "properties": {
            "kind": {"enum": ["x", "yz"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 9},
            "flag": {"type": "boolean"},
        },
        "required": ["kind", "count"],
        "additionalProperties": False,
    },
    "now": {"type": "object", "properties": {}},
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[name for name, each in FORMATS.items() if not isinstance(each, JsonFormat)])
def server(request: pytest.FixtureRequest) -> Iterator[FakeServer]:
    script = Path(__file__).parent / "scripted_server.py"
    with fake_server(script=script, tool_format=request.param, server={"access_log": False}) as running:
        yield running


CHOICES: list[tuple[dict[str, Any], set[str]]] = [
    ({"tool_choice": "required"}, {"add", "now"}),
    ({"tool_choice": "required", "parallel_tool_calls": False}, {"add", "now"}),
    ({"tool_choice": {"type": "function", "function": {"name": "add"}}}, {"add"}),
    ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, {"now"}),
]


@pytest.mark.parametrize(("choice", "names"), CHOICES, ids=["several", "one", "add", "now"])
def test_forced_call_has_valid_arguments(server: FakeServer, choice: dict[str, Any], names: set[str]) -> None:
    for length in range(2):  # of the prompt: the seed of the scripted engine
        (shown,) = chat_both_ways(server, messages=user("x" * length), tools=TOOLS, max_tokens=4000, **choice)
        assert (shown["content"], shown["reason"]) == ("", "tool_calls")
        assert {name for name, _ in shown["calls"]} <= names
        assert len(shown["calls"]) == 1 or choice == CHOICES[0][0]
        for name, arguments in shown["calls"]:
            jsonschema.validate(json.loads(arguments), SCHEMAS[name])


def test_call_that_is_cut_is_not_content(server: FakeServer) -> None:
    fields = {"messages": user("x"), "tools": TOOLS, "tool_choice": "required", "seed": 0}  # a token is a character
    for max_tokens in (2, 5, 9):
        (shown,) = chat_both_ways(server, **fields, max_tokens=max_tokens)
        assert (shown["content"], shown["reason"]) == ("", "length")
