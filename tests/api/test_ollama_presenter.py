"""Ollama's lines and bodies, from the deltas of an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from infrs.api.ollama.pieces import Pieces
from infrs.api.ollama.presenter import Durations, OllamaPresenter
from infrs.core import Delta, FinishReason, RequestContext, Usage
from infrs.errors import EngineError, QueueFullError
from infrs.text.tools.events import Arguments, CallStart, Content, Event, Reasoning

TIMES = {"total_duration", "prompt_eval_duration", "eval_duration"}
CALL = [CallStart("find"), Arguments('{"city": '), Arguments('"Köln"}')]
FOUND = {"index": 0, "name": "find", "arguments": {"city": "Köln"}}


@dataclass
class ScriptedParser:
    """Yields a list of events for each delta."""

    script: list[list[Event]]
    scored: bool = False
    finish_reason: FinishReason | None = None

    def feed(self, delta: Delta) -> tuple[list[Event], list[dict[str, Any]] | None]:
        self.finish_reason = delta.finish_reason
        return self.script.pop(0), [{"token": "a", "logprob": -1.0}] if self.scored else None


def deltas(count: int, reason: FinishReason = FinishReason.STOP) -> list[Delta]:
    ends = [None] * (count - 1) + [reason]
    return [Delta("r", "", (1,), Usage(7, index + 1), end) for index, end in enumerate(ends)]


def presenter(script: list[list[Event]], *, is_chat: bool = True, scored: bool = False) -> OllamaPresenter:
    durations = Durations.of(RequestContext.start("r", "", 10.0))
    return OllamaPresenter("m:latest", ScriptedParser([*script], scored), durations, is_chat=is_chat)


def lines(script: list[list[Event]], **options: Any) -> list[dict[str, Any]]:
    frames = [*presenter(script, **options).frames(deltas(len(script)))]
    assert all(frame.endswith(b"\n") and frame.count(b"\n") == 1 for frame in frames)
    return [json.loads(frame) for frame in frames]


def whole(script: list[list[Event]], reason: FinishReason = FinishReason.STOP, **options: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(presenter(script, **options).whole(deltas(len(script), reason)))
    return body


def without_ids(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    assert all(call.pop("id").startswith("call_") for call in calls)
    return [*calls]


def test_lines_of_a_chat_have_a_piece_each_and_the_last_has_the_counts() -> None:
    first, second, last = lines([[Reasoning("Hm"), Content("He")], [Content("llo")]])
    for line in (first, second, last):
        assert line.pop("created_at").endswith("Z")
        assert line.pop("model") == "m:latest"
    assert first == {"message": {"role": "assistant", "content": "He", "thinking": "Hm"}, "done": False}
    assert second == {"message": {"role": "assistant", "content": "llo"}, "done": False}
    assert all(last.pop(name) >= 0 for name in TIMES)
    assert last == {
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        "load_duration": 0,
        "prompt_eval_count": 7,
        "eval_count": 2,
    }


def test_lines_of_a_prompt_have_a_response() -> None:
    first, last = lines([[Reasoning("Hm"), Content("He")]], is_chat=False)
    assert (first["response"], first["thinking"], last["response"]) == ("He", "Hm", "")
    assert "message" not in first


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_stream_has_the_message_of_the_whole_answer(cut: int) -> None:
    events = [Reasoning("Hm."), Content("See: "), *CALL, CallStart("clock")]
    script = [events[:cut], events[cut:], []]
    answer = whole(script)["message"]
    pieces = [line["message"] for line in lines(script)]
    assert answer["content"] == "".join(piece["content"] for piece in pieces) == "See: "
    assert answer["thinking"] == "".join(piece.get("thinking", "") for piece in pieces) == "Hm."
    streamed = [call for piece in pieces for call in piece.get("tool_calls", ())]
    expected = [{"function": FOUND}, {"function": {"index": 1, "name": "clock", "arguments": {}}}]
    assert without_ids(answer["tool_calls"]) == without_ids(streamed) == expected


@pytest.mark.parametrize(
    ("text", "arguments"),
    [("", {}), ('{"a": 1, "b', {"a": 1}), ("[1]", {"INVALID_JSON": "[1]"}), ("a", {"INVALID_JSON": "a"})],
)
def test_arguments_are_always_an_object(text: str, arguments: dict[str, Any]) -> None:
    piece = Pieces().add([CallStart("f"), Arguments(text)], is_last=True)
    assert piece["tool_calls"][0]["function"]["arguments"] == arguments


def test_a_truncated_answer_ends_for_length() -> None:
    assert whole([[Content("a")]], FinishReason.LENGTH)["done_reason"] == "length"


def test_log_probabilities_are_those_of_the_line_or_of_all() -> None:
    entry = {"token": "a", "logprob": -1.0}
    assert [line.get("logprobs") for line in lines([[Content("a")], []], scored=True)] == [[entry], [entry], None]
    assert whole([[Content("a")], []], scored=True)["logprobs"] == [entry, entry]


def test_a_ping_is_a_line_without_text() -> None:
    ping = json.loads(presenter([]).ping)
    assert (ping["message"]["content"], ping["done"]) == ("", False)


def test_a_failure_is_the_last_line_and_shows_no_inside() -> None:
    shown = json.loads(presenter([]).failed(EngineError("/secret")))
    assert shown == {"error": "the server failed while it worked on this request; see its log"}
    busy = json.loads(presenter([]).failed(QueueFullError("4 requests wait")))
    assert busy == {"error": "server busy, please try again: 4 requests wait"}


def test_the_first_tokens_end_the_time_of_the_prompt() -> None:
    durations = Durations(started=0, submitted=5)
    durations.observe([])
    first = durations.first
    durations.observe([])
    assert durations.first == first
    assert first is not None
    fields = durations.fields(deltas(1)[0])
    assert fields["prompt_eval_duration"] == first - 5
    assert fields["total_duration"] >= fields["prompt_eval_duration"] + fields["eval_duration"]
