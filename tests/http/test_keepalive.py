"""Waits for a stream that last too long are interrupted; nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from infrs.core import Delta, FinishReason, Request, Usage
from infrs.http.connection.keepalive import Keepalive
from infrs.models.bridge import DeltaStream

SECONDS = 0.3


def delta(reason: FinishReason | None = None) -> Delta:
    return Delta("a", "x", (1,), Usage(1, 1), reason)


def batches(feed: Callable[[DeltaStream], Awaitable[None]], pause: float = 0) -> list[int]:
    """Return the sizes of the batches of a stream. The reader pauses for `pause` seconds after each batch."""

    async def scenario() -> list[int]:
        stream = DeltaStream([Request("a", (1,), 1)], lambda stream: None, lambda stream, paused: None)
        silence = Keepalive(stream, SECONDS)
        feeding = asyncio.create_task(feed(stream))  # type: ignore[arg-type]  # a coroutine
        sizes = []
        async for batch in stream:
            sizes.append(len(batch))
            await asyncio.sleep(pause)
        silence.close()
        await feeding
        return sizes

    return asyncio.run(scenario())


def test_each_long_wait_gives_a_ping_and_loses_no_delta() -> None:
    async def feed(stream: DeltaStream) -> None:
        stream.feed(delta())
        await asyncio.sleep(3.5 * SECONDS)
        stream.feed(delta(FinishReason.STOP))

    sizes = batches(feed)
    assert [size for size in sizes if size] == [1, 1]
    assert 2 <= sizes.count(0) <= 3  # on a machine that is busy the last falls together with the delta


def test_frequent_deltas_give_no_ping() -> None:
    async def feed(stream: DeltaStream) -> None:
        for _ in range(40):
            await asyncio.sleep(SECONDS / 10)
            stream.feed(delta())
        stream.feed(delta(FinishReason.STOP))

    sizes = batches(feed)
    assert 0 not in sizes
    assert sum(sizes) == 41


def test_a_busy_reader_gets_no_ping() -> None:
    """The reader causes the delay itself, so no ping follows it."""

    async def feed(stream: DeltaStream) -> None:
        stream.feed(delta())
        await asyncio.sleep(2.5 * SECONDS)
        stream.feed(delta(FinishReason.STOP))

    assert batches(feed, pause=2.3 * SECONDS) == [1, 1]


def test_a_wait_after_a_pause_of_the_reader_gives_a_ping_in_time() -> None:
    """The ping does not wait for a timer that the reader's pause has shifted."""

    async def feed(stream: DeltaStream) -> None:
        stream.feed(delta())
        await asyncio.sleep(2.9 * SECONDS)  # the reader waits from 1.5 on
        stream.feed(delta(FinishReason.STOP))

    assert batches(feed, pause=1.5 * SECONDS) == [1, 0, 1]


def test_a_stream_that_ends_during_a_wait_ends() -> None:
    async def feed(stream: DeltaStream) -> None:
        await asyncio.sleep(1.5 * SECONDS)
        stream.feed(delta(FinishReason.STOP))

    assert batches(feed) == [0, 1]
