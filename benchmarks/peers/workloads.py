"""What peers are compared by: each workload runs once against one server and gives one figure."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from infrs.bench.client import Asking, Sample, Target, ask
from infrs.bench.run import Level, converse, load
from infrs.bench.stats import Limits, figures
from infrs.bench.workload import Conversation, Shape, synthetic, words

TEMPLATE_TOKENS = 31  # that the demo's template adds; a synthetic word is one token
LONG, SYSTEM = 1150, 580  # words that make about 1,200 and 600 tokens with what the chat template adds

CODE = """class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        if not self.items:
            raise IndexError("pop from an empty stack")
        return self.items.pop()
"""


@dataclass(frozen=True, slots=True)
class Workload:
    """run: returns the figure of a server, for prompts that follow from a seed.

    one_at_a_time: a library that serves one request at a time can be measured by it.
    """

    title: str
    unit: str
    more_is_better: bool
    run: Callable[[Target, str], Awaitable[float]]
    one_at_a_time: bool = False


def checked(samples: Sequence[Sample]) -> Sequence[Sample]:
    for sample in samples:
        if sample.error is not None:
            raise RuntimeError(sample.error)
    return samples


async def one_stream(target: Target, seed: str) -> float:
    talks = synthetic(Shape(input_words=12), 1, seed)
    sample = checked(await load(target, talks, Level(concurrency=1), Asking(128), seed=seed))[0]
    return sample.num_output / sample.total


async def behind_context(target: Target, seed: str, *, num_tokens: int) -> float:
    """Tokens a second of one stream behind a prompt of about `num_tokens` tokens, the prompt not counted."""
    talks = synthetic(Shape(input_words=num_tokens - TEMPLATE_TOKENS), 1, seed)
    sample = checked(await load(target, talks, Level(concurrency=1), Asking(64), seed=seed))[0]
    if not sample.per_token:
        raise RuntimeError("the answer came in one piece")
    return 1 / sample.per_token


async def streams(target: Target, seed: str, *, count: int) -> float:
    talks = synthetic(Shape(input_words=95), count, seed)
    samples = checked(await load(target, talks, Level(concurrency=count), Asking(96), seed=seed))
    return figures(samples, Limits()).output_per_s


eight_streams = partial(streams, count=8)


async def short_requests(target: Target, seed: str) -> float:
    talks = synthetic(Shape(input_words=20), 48, seed)
    samples = checked(await load(target, talks, Level(concurrency=16), Asking(24), seed=seed))
    return figures(samples, Limits()).requests_per_s


async def long_prompt(target: Target, seed: str) -> float:
    talks = synthetic(Shape(input_words=LONG), 1, seed)
    return checked(await load(target, talks, Level(concurrency=1), Asking(4), seed=seed))[0].first


async def second_turn(target: Target, seed: str) -> float:
    talk = Conversation((words(LONG, seed), words(12, f"{seed} more")))
    return checked(await converse(target, talk, Asking(8), origin=time.perf_counter()))[1].first


async def shared_prefix(target: Target, seed: str) -> float:
    talks = synthetic(Shape(input_words=20, prefix_words=SYSTEM), 16, seed)
    samples = checked(await load(target, talks, Level(concurrency=16), Asking(4), seed=seed))
    return statistics.median(sample.first for sample in samples)


async def worst_gap(target: Target, seed: str) -> float:
    """The longest gap of a running stream from when a fresh long prompt leaves until it has its first token."""
    running, late = await stream_during_a_prompt(target, seed)
    if running.arrivals[0] > late.began:
        raise RuntimeError("the stream had no token when the prompt arrived")
    until = late.arrivals[0]
    pairs = zip(running.arrivals, running.arrivals[1:], strict=False)
    gaps = [after - before for before, after in pairs if after > late.began and before < until]
    if not gaps:
        raise RuntimeError("the stream ended before the prompt came")
    return max(gaps)


async def stream_during_a_prompt(target: Target, seed: str) -> tuple[Sample, Sample]:
    """A running stream, and a fresh long prompt that comes half a second later."""
    origin = time.perf_counter()
    first = [{"role": "user", "content": words(12, f"{seed} stream")}]
    stream = asyncio.create_task(ask(target, first, Asking(1000), origin=origin))
    await asyncio.sleep(0.5)
    prompt = [{"role": "user", "content": words(LONG, f"{seed} prompt")}]
    late = await ask(target, prompt, Asking(4), origin=origin)
    running = await stream
    checked([running, late])
    return running, late


async def repeated_text(target: Target, seed: str) -> float:
    name = words(1, seed).title()
    content = (
        f"Write this code again, with the class renamed to {name}, and change nothing else:\n\n```python\n{CODE}```"
    )
    sample = checked(await load(target, [Conversation((content,))], Level(concurrency=1), Asking(112), seed=seed))[0]
    return sample.num_output / sample.total


GAPS = "worst gap of a running stream while a fresh 1,200-token prompt arrives"
# The first four lead the page.
WORKLOADS = (
    Workload("one stream, short prompt, 128 tokens out", "tok/s", True, one_stream, one_at_a_time=True),
    Workload("8 parallel streams, 100-token prompts, 96 tokens out", "tok/s", True, eight_streams),
    Workload("fresh 1,200-token prompt to first token", "s", False, long_prompt, one_at_a_time=True),
    Workload("second turn of a 1,200-token conversation, to first token", "s", False, second_turn),
    Workload("48 short requests, 16 at a time", "req/s", True, short_requests),
    Workload("16 users behind one 600-token system prompt, median to first token", "s", False, shared_prefix),
    Workload(GAPS, "s", False, worst_gap),
)
LEADING = WORKLOADS[:4]
DRAFTED = (
    Workload("an answer that repeats its prompt (edit this code)", "tok/s", True, repeated_text),
    Workload("one stream, short prompt, 128 tokens out", "tok/s", True, one_stream),
)

CONTEXTS, ROWS = (64, 1024, 2048, 4000), (8, 32)
BEHIND = tuple(
    Workload(f"decoding after {size:,} tokens", "tok/s", True, partial(behind_context, num_tokens=size))
    for size in CONTEXTS
)
PARALLEL = tuple(Workload(f"{count} parallel streams", "tok/s", True, partial(streams, count=count)) for count in ROWS)
