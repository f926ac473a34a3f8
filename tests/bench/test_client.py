"""The load client against a server of canned answers: what it sends, what it counts, what it calls an error."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from sse_server import FakeServer, Script, answer, event, piece, serving, usage

from infrs.bench.client import Asking, Sample, ask, find_model
from infrs.bench.run import Level, converse, load
from infrs.bench.transport import Endpoint, ServerError
from infrs.bench.workload import Conversation

QUESTION = [{"role": "user", "content": "What is 2+2?"}]


def asked(script: Script, *, timeout: float = 5.0, **fields: Any) -> tuple[Sample, FakeServer]:
    async def run() -> tuple[Sample, FakeServer]:
        async with serving(script, **fields) as fake:
            asking = Asking(max_tokens=9, timeout=timeout)
            return await ask(fake.target(ignore_eos=True), QUESTION, asking, origin=time.perf_counter()), fake

    return asyncio.run(run())


def test_an_answer_is_timed_piece_by_piece_and_counted_by_the_server() -> None:
    sample, fake = asked(lambda body: answer("Fo", "ur", "!", pause=0.05, num_input=12, num_output=5))
    assert sample.error is None
    assert (sample.text, sample.num_input, sample.num_output) == ("Four!", 12, 5)
    assert len(sample.arrivals) == 3
    assert sample.first >= 0.05
    assert sample.arrivals[2] - sample.due >= 0.15
    assert sample.gaps == [sample.arrivals[1] - sample.arrivals[0], sample.arrivals[2] - sample.arrivals[1]]
    assert sample.per_token == pytest.approx(sum(sample.gaps) / 4)  # four tokens after the first, two gaps
    assert sample.total >= sample.arrivals[-1] - sample.due
    assert fake.bodies == [
        {
            "model": "the-model",
            "messages": QUESTION,
            "max_tokens": 9,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
        }
    ]
    assert fake.heads[0].startswith("POST /v1/chat/completions HTTP/1.1\r\n")


def test_events_may_be_cut_anywhere() -> None:
    whole = b"".join(step for step in answer("Grüße", ", 世界") if isinstance(step, bytes))
    sample, _ = asked(lambda body: [whole[place : place + 3] for place in range(0, len(whole), 3)])
    assert (sample.error, sample.text, sample.num_output) == (None, "Grüße, 世界", 2)


def test_a_body_may_end_with_its_connection() -> None:
    sample, _ = asked(lambda body: answer("a", "b"), unframed=True)
    assert (sample.error, sample.text, sample.num_output) == (None, "ab", 2)
    sample, _ = asked(lambda body: answer("a", "b")[:-1], unframed=True)
    assert sample.error == "the stream ended without [DONE]"


def test_reasoning_counts_as_text() -> None:
    thought = event({"choices": [{"delta": {"reasoning_content": "Hm."}}]})
    sample, _ = asked(lambda body: [thought, piece("4"), usage(3, 2), event("[DONE]")])
    assert (sample.text, len(sample.arrivals)) == ("Hm.4", 2)


def test_without_usage_pieces_of_text_are_counted() -> None:
    sample, _ = asked(lambda body: [piece("a"), piece("b"), event({"kind": "other"}), event("[DONE]")])
    assert (sample.error, sample.num_input, sample.num_output, sample.counted) == (None, 0, 2, True)
    sample, _ = asked(lambda body: answer("a", "b", num_output=5))
    assert (sample.num_output, sample.counted) == (5, False)


@pytest.mark.parametrize(
    ("script", "fields", "said"),
    [
        (
            lambda body: [b'{"error": "no\n room"}'],
            {"status": "429 Too Many Requests"},
            'answered 429: {"error": "no room"}',
        ),
        (lambda body: [piece("a"), event({"error": {"message": "boom"}})], {}, "broke off"),
        (lambda body: [piece("a"), usage(1, 1)], {}, r"without \[DONE\]"),
        (lambda body: [event("[DONE]")], {}, "neither text nor token counts"),
        (lambda body: [piece("a")], {"broken": True}, "ended early"),
        (lambda body: [event("{nonsense")], {}, "not JSON"),
        (lambda body: [10.0], {}, "no complete answer within 0.2 s"),
    ],
)
def test_failures_are_in_the_sample(script: Script, fields: dict[str, Any], said: str) -> None:
    sample, _ = asked(script, timeout=0.2, **fields)
    assert sample.error is not None
    assert re.search(said, sample.error), sample.error


def test_no_server_at_all() -> None:
    async def run() -> Sample:
        async with serving(lambda body: []) as fake:
            target = fake.target()
        return await ask(target, QUESTION, Asking(), origin=time.perf_counter())

    sample = asyncio.run(run())
    assert sample.error is not None
    assert "cannot be reached" in sample.error


def test_the_first_model_listed_and_the_key() -> None:
    async def run() -> tuple[str, str]:
        async with serving(lambda body: []) as fake:
            return await find_model(fake.endpoint(api_key="a-key")), fake.heads[0]

    model, head = asyncio.run(run())
    assert model == "first/model"
    assert head.startswith("GET /v1/models HTTP/1.1\r\n")
    assert "\r\nAuthorization: Bearer a-key\r\n" in head


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("https://h/api", "https://h:443/api"),
        ("http://[::1]:80", "http://[::1]:80/v1"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert Endpoint.parse(url).url == shown


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://h", "http://", "http://h:port"])
def test_no_urls(url: str) -> None:
    with pytest.raises(ServerError, match="give one like"):
        Endpoint.parse(url)


def test_a_closed_loop_keeps_so_many_open_and_asks_everything_once() -> None:
    talks = [Conversation((f"question {index}",)) for index in range(10)]
    done = []

    async def run() -> tuple[list[Sample], FakeServer]:
        async with serving(lambda body: answer("x", pause=0.02)) as fake:
            level = Level(concurrency=3)
            samples = await load(fake.target(), talks, level, Asking(), seed=0, done=lambda: done.append(1))
            return samples, fake

    samples, fake = asyncio.run(run())
    assert fake.open_most == 3
    assert len(samples) == len(done) == 10
    assert sorted(body["messages"][0]["content"] for body in fake.bodies) == sorted(talk.turns[0] for talk in talks)


def test_an_open_loop_does_not_wait_for_answers_and_counts_from_when_a_request_was_due() -> None:
    talks = [Conversation(("q",))] * 8

    async def run() -> tuple[list[Sample], FakeServer]:
        async with serving(lambda body: answer("x", pause=0.6)) as fake:
            return await load(fake.target(), talks, Level(rate=100), Asking(), seed=1), fake

    samples, fake = asyncio.run(run())
    assert fake.open_most == 8
    for sample in samples:
        assert sample.began >= sample.due
        assert sample.first >= 0.6


def test_a_conversation_carries_its_answers_on_and_ends_at_a_failure() -> None:
    def script(body: dict[str, Any]) -> list[float | bytes]:
        asked = body["messages"][-1]["content"]
        return [piece("cut")] if asked == "three" else answer(f"re {asked}")

    async def run() -> tuple[list[Sample], FakeServer]:
        async with serving(script) as fake:
            talk = Conversation(("one", "two", "three", "four"), system="be brief")
            return await converse(fake.target(), talk, Asking(), origin=time.perf_counter()), fake

    samples, fake = asyncio.run(run())
    assert [sample.error is None for sample in samples] == [True, True, False]
    assert [message["content"] for message in fake.bodies[1]["messages"]] == ["be brief", "one", "re one", "two"]
    assert [message["role"] for message in fake.bodies[1]["messages"]] == ["system", "user", "assistant", "user"]
