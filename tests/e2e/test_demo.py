"""The demo model through the real server: what a user sees."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from live_server import Server
from openai import OpenAI

from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow

MODEL = "demo/SmolLM2-135M-Instruct"
DTYPES: tuple[Dtype, ...] = ("float32", "int8", "int4")
QUESTIONS = (
    "How many days are in a week?",
    "Name three colours.",
    "Write a haiku about rain.",
    "Why is the sky blue?",
    "List the days of the week.",
    "Explain what a compiler does, in two sentences, for a child who likes trains.",
    "Repeat after me: ä ö ü 日本語 🎉",
    "def fibonacci(n):\n    # complete this Python function and explain it\n",
)
DemoServer = Callable[[Dtype], Server]


def ask(client: OpenAI, question: str, **fields: Any) -> str:
    fields = {"temperature": 0, "max_tokens": 48} | fields
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}], **fields)
    assert answer.choices[0].finish_reason in ("stop", "length")
    return answer.choices[0].message.content or ""


def stream(client: OpenAI, question: str, **fields: Any) -> str:
    fields = {"temperature": 0, "max_tokens": 48} | fields
    chunks = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], stream=True, **fields
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def num_running(server: Server) -> float:
    for line in _get(server, "/metrics").splitlines():
        if line.startswith("infrs_requests_running{"):
            return float(line.rpartition(" ")[2])
    raise AssertionError("no gauge of running requests")


def _get(server: Server, path: str) -> str:
    return subprocess.run(["curl", "-sf", server.url + path], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("dtype", DTYPES)
def test_demo_answers_simple_questions(demo_server: DemoServer, dtype: Dtype) -> None:
    """No token of this answer is a close call in any dtype, as those of sums are for 135 million parameters."""
    assert "7 days" in ask(demo_server(dtype).client(), "How many days are in a week?")


def test_eight_streams_one_cancelled_one_late(demo_server: DemoServer) -> None:
    server = demo_server("int8")
    client = server.client()
    expected = {question: ask(client, question) for question in QUESTIONS}

    def cancelled(question: str) -> None:
        chunks = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}], stream=True, max_tokens=2000
        )
        for _ in range(5):
            next(chunks)
        chunks.close()

    def late(question: str) -> str:
        time.sleep(0.3)
        return stream(client, question)

    with ThreadPoolExecutor(8) as pool:
        gone = pool.submit(cancelled, QUESTIONS[0])
        answers = {question: pool.submit(stream, client, question) for question in QUESTIONS[1:7]}
        answers[QUESTIONS[7]] = pool.submit(late, QUESTIONS[7])
        gone.result()
        assert {question: answer.result() for question, answer in answers.items()} == {
            question: expected[question] for question in QUESTIONS[1:]
        }
    deadline = time.monotonic() + 5
    while num_running(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert num_running(server) == 0


def test_stop_strings_usage_and_limits(demo_server: DemoServer) -> None:
    client = demo_server("int8").client()
    whole = ask(client, "List the days of the week.")
    marker = whole[10:14]
    assert ask(client, "List the days of the week.", stop=[marker]) == whole[: whole.index(marker)]
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}], temperature=0, max_tokens=3
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3
    assert answer.id.startswith("chatcmpl-")


def test_curl(demo_server: DemoServer) -> None:
    server = demo_server("int8")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "How many days are in a week?"}], "temperature": 0}
    done = subprocess.run(
        ["curl", "-s", f"{server.url}/v1/chat/completions", "-H", "content-type: application/json", "-d", "@-"],
        input=json.dumps(body),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert "7" in answer["choices"][0]["message"]["content"]
    assert [model["id"] for model in json.loads(_get(server, "/v1/models"))["data"]] == [MODEL]
    assert json.loads(_get(server, f"/v1/models/{MODEL}"))["id"] == MODEL
    assert json.loads(_get(server, "/props"))["graph"]["kind"] == "fused"
