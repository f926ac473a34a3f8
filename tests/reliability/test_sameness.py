"""The same request gives the same bytes in any batch, in every dtype."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from live_server import serving
from openai import OpenAI

from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow

DTYPES: tuple[Dtype, ...] = ("float32", "float16", "bfloat16", "int8", "int4")
MODEL = "demo/SmolLM2-135M-Instruct"
ROWS = 8  # that run in parallel
TEXT = "the sea and a small red boat that nobody had seen before sailed over quiet hills of blue glass"
WORDS = TEXT.split()
Answer = tuple[str, tuple[tuple[str, float], ...]]


def make_ask(number: int, num_tokens: int, chunk: int) -> dict[str, Any]:
    """A request: greedy or seeded, a prompt of one to three chunks, which begins as one in four others do."""
    choose, most = random.Random(number), chunk * 4 // 5
    text = " ".join([f"Story {number % 4}.", *random.Random(number % 4).choices(WORDS, k=most)])
    text = " ".join(text.split()[: choose.randrange(3, most)] + choose.choices(WORDS, k=choose.randrange(1, 2 * most)))
    sampling = {"temperature": 1.0, "seed": number} if number % 2 else {"temperature": 0.0}
    asked = {"messages": [{"role": "user", "content": text}], "max_tokens": num_tokens, "logprobs": True}
    return {"model": MODEL, **asked, **sampling, "top_logprobs": 2}


def ask(client: OpenAI, asked: dict[str, Any], *, stream: bool) -> tuple[Answer, int]:
    """The answer, its tokens with their log-probabilities to the last bit, and how many prompt tokens were reused."""
    if not stream:
        whole = client.chat.completions.create(**asked)
        choice, usage = whole.choices[0], whole.usage
        scores = [(entry.token, entry.logprob) for entry in choice.logprobs.content]
        return (choice.message.content or "", tuple(scores)), usage.prompt_tokens_details.cached_tokens
    text, scores, reused = "", [], 0
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        if chunk.usage is not None:
            reused = chunk.usage.prompt_tokens_details.cached_tokens
        for choice in chunk.choices:
            text += choice.delta.content or ""
            scores += [(entry.token, entry.logprob) for entry in (choice.logprobs.content if choice.logprobs else [])]
    return (text, tuple(scores)), reused


@pytest.mark.nightly("sameness")
@pytest.mark.parametrize("dtype", DTYPES)
def test_answers_alone_and_in_batches_are_equal(
    dtype: Dtype,
    demo_cache: Callable[[Dtype], Path],
    full: bool,
    figure: Callable[[str], None],
) -> None:
    """Alone on one server, then on another, after a restart: eight at a time, staggered, in changing company."""
    num_asks, num_trials, num_tokens, chunk = (24, 200, 128, 128) if full else (8, 16, 12, 32)
    asks = [make_ask(number, num_tokens, chunk) for number in range(num_asks)]
    options = ("--demo", "--dtype", dtype, "--cache-dir", demo_cache(dtype), "--max-num-seqs", str(ROWS))
    options += ("--prefill-chunk", str(chunk))
    with serving(*options) as server:
        alone = [ask(server.client(), asked, stream=False)[0] for asked in asks]
    assert len({text for text, _ in alone}) > num_asks // 2
    seed = random.randrange(10**9)
    choose = random.Random(seed)
    mismatches, reused = [], 0
    with serving(*options) as server, ThreadPoolExecutor(ROWS) as pool:
        client = server.client()

        def trial(number: int, delay: float, stream: bool) -> tuple[Answer, int]:
            time.sleep(delay)
            return ask(client, asks[number], stream=stream)

        for _ in range(num_trials // ROWS):
            company = [choose.randrange(num_asks) for _ in range(ROWS)]
            answers = [pool.submit(trial, i, choose.random() * 0.5, choose.random() < 0.5) for i in company]
            for number, (answer, num_reused) in zip(company, (done.result() for done in answers), strict=True):
                reused += num_reused > 0
                if answer != alone[number]:
                    mismatches.append(number)
    assert mismatches == [], f"seed {seed}"
    assert reused > 0
    figure(
        f"{num_trials} trials of {num_tokens} tokens, half greedy, half seeded, log-probabilities to the bit: "
        f"0 differ ({reused} after a prefix hit)",
    )


@pytest.mark.nightly("killed")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_answers_after_a_kill_are_equal(
    dtype: Dtype, demo_cache: Callable[[Dtype], Path], full: bool, figure: Callable[[str], None]
) -> None:
    """`kill -9` during streams; the next server gives the same bytes for the same requests in another order."""
    num_asks, num_tokens, chunk = (24, 64, 128) if full else (4, 8, 32)
    asks = [make_ask(number, num_tokens, chunk) for number in range(num_asks)]
    options = ("--demo", "--dtype", dtype, "--cache-dir", demo_cache(dtype), "--max-num-seqs", "2")
    options += ("--prefill-chunk", str(chunk))
    with serving(*options, status=-signal.SIGKILL) as server:
        before = [ask(server.client(), asked, stream=False)[0] for asked in asks]
        for asked in asks[:2]:
            stream = server.client().chat.completions.create(**asked | {"max_tokens": 200}, stream=True)
            next(iter(stream))
        server.process.kill()
    order = random.Random(0).sample(range(num_asks), num_asks)
    with serving(*options) as server:
        after = {number: ask(server.client(), asks[number], stream=False)[0] for number in order}
    assert [after[number] for number in range(num_asks)] == before
    assert len(set(before)) > num_asks // 2
    figure(f"{num_asks} requests of {num_tokens} tokens before and after `kill -9`, in another order: 0 differ")
