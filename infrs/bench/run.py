"""Put servers under load: closed and open loops, in interleaved rounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from infrs.bench.arrivals import poisson
from infrs.bench.client import Asking, Message, Sample, Target, ask
from infrs.bench.workload import Conversation

Done = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Level:
    """A level of load: requests in parallel (closed loop), or Poisson arrivals a second (open loop)."""

    concurrency: int | None = None
    rate: float | None = None

    @property
    def title(self) -> str:
        """Return the level's name in the report."""
        return f"{self.rate:g}/s" if self.rate is not None else f"{self.concurrency} at a time"


def turns(num_rounds: int, num_targets: int) -> Iterator[tuple[int, int]]:
    """Yield (round, target). The first target differs by round, so that drift of the machine affects all equally."""
    for number in range(num_rounds):
        for place in range(num_targets):
            yield number, (number + place) % num_targets


async def load(
    target: Target,
    conversations: Sequence[Conversation],
    level: Level,
    asking: Asking,
    *,
    seed: int | str,
    done: Done = lambda: None,
) -> list[Sample]:
    """Hold all conversations and return the samples of their turns. `done` is called as each turn ends."""
    origin = time.perf_counter()

    async def hold(talk: Conversation, due: float | None = None) -> list[Sample]:
        return await converse(target, talk, asking, origin=origin, due=due, done=done)

    async def user(queue: Iterator[Conversation]) -> list[Sample]:
        return [sample for talk in queue for sample in await hold(talk)]

    async def arrive(talk: Conversation, due: float) -> list[Sample]:
        await asyncio.sleep(due - (time.perf_counter() - origin))
        return await hold(talk, due)

    if level.rate is not None:
        due = poisson(level.rate, len(conversations), seed)
        talks = [arrive(talk, at) for talk, at in zip(conversations, due, strict=True)]
    else:
        queue = iter(conversations)  # shared: each user takes the next one when it has ended its last
        talks = [user(queue) for _ in range(level.concurrency or 1)]
    return [sample for samples in await asyncio.gather(*talks) for sample in samples]


async def converse(
    target: Target,
    talk: Conversation,
    asking: Asking,
    *,
    origin: float,
    due: float | None = None,
    done: Done = lambda: None,
) -> list[Sample]:
    """Hold a conversation, each turn with the real answers to those before; it ends at the first failure."""
    messages: list[Message] = [{"role": "system", "content": talk.system}] if talk.system is not None else []
    samples: list[Sample] = []
    for turn in talk.turns:
        messages.append({"role": "user", "content": turn})
        sample = await ask(target, messages, asking, origin=origin, due=due)
        samples.append(sample)
        done()
        if sample.error is not None:
            break
        messages.append({"role": "assistant", "content": sample.text})
        due = None
    return samples
