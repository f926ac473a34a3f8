import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from infrs.core import Delta, FinishReason, Request, RequestContext, TokenLogprob, Usage
from infrs.errors import DrainingError, EngineError, QueueFullError, RequestTimeoutError
from infrs.models.bridge import Bridge, DeltaStream

Sink = Callable[[Delta], None]
CONTEXT = RequestContext.start("c", "", 3600)


class ManualEngine:
    """Keeps the sinks, for a test to feed from a thread."""

    def __init__(self) -> None:
        self.sinks: dict[str, Sink] = {}
        self.cancelled: list[str] = []
        self.pauses: list[tuple[str, bool]] = []

    def submit(self, request: Request, sink: Sink) -> None:
        if request.request_id == "refused":
            raise QueueFullError("full")
        self.sinks[request.request_id] = sink

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)

    def set_paused(self, request_id: str, paused: bool) -> None:
        self.pauses.append((request_id, paused))

    def feed(self, *deltas: Delta) -> None:
        """Send the deltas from another thread, as the engine does."""
        thread = threading.Thread(target=lambda: [self.sinks[delta.request_id](delta) for delta in deltas])
        thread.start()
        thread.join()


def delta(name: str, text: str, reason: FinishReason | None = None, error: EngineError | None = None) -> Delta:
    return Delta(name, text, (1,), Usage(1, 1), reason, error)


def make(engine: ManualEngine) -> Bridge:
    return Bridge(engine)  # type: ignore[arg-type]  # the interface, not the class


def submit(bridge: Bridge, name: str, timeout: float = 60) -> DeltaStream:
    return bridge.submit([Request(name, (1,), 1)], RequestContext.start(name, "", timeout))


async def texts(stream: DeltaStream) -> list[list[str]]:
    return [[delta.text for delta in batch] async for batch in stream]


def test_ready_deltas_arrive_together_and_in_order() -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        bridge = make(engine)
        one, two = submit(bridge, "1"), submit(bridge, "2")
        engine.feed(delta("1", "a"), delta("2", "x"), delta("1", "b"), delta("1", "c", FinishReason.STOP))
        engine.feed(delta("2", "y", FinishReason.LENGTH))
        assert await texts(one) == [["a", "b", "c"]]
        assert await texts(two) == [["x", "y"]]
        one.close()
        two.close()
        assert engine.cancelled == []

    asyncio.run(scenario())


def test_the_deltas_of_a_step_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        bridge = make(engine)
        streams = [submit(bridge, str(i)) for i in range(8)]
        loop = asyncio.get_running_loop()
        wakes: list[Any] = []
        wake = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: wakes.append(args) or wake(*args))
        for _ in range(3):
            engine.feed(*(delta(str(i), "t") for i in range(8)))
            assert [len(await anext(stream)) for stream in streams] == [1] * 8
        assert len(wakes) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("finished", [False, True])
def test_close_cancels_a_running_request_once(finished: bool) -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        bridge = make(engine)
        stream = submit(bridge, "1")
        if finished:
            engine.feed(delta("1", "", FinishReason.STOP))
            await asyncio.sleep(0)
            assert stream.open_ids == []
        stream.close()
        stream.close()
        bridge.fail_all(DrainingError("no"))
        assert engine.cancelled == ([] if finished else ["1"])

    asyncio.run(scenario())


def test_an_error_follows_the_text_before_it() -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        stream = submit(make(engine), "1")
        engine.feed(delta("1", "a"), delta("1", "", FinishReason.ERROR, EngineError("broke")))
        assert [d.text for d in await anext(stream)] == ["a"]
        for _ in range(2):
            with pytest.raises(EngineError, match="broke"):
                await anext(stream)
        stream.close()
        assert engine.cancelled == []

    asyncio.run(scenario())


def test_a_request_that_the_engine_cancels_is_an_error() -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        stream = submit(make(engine), "1")
        engine.feed(delta("1", "", FinishReason.CANCELLED))
        with pytest.raises(EngineError):
            await anext(stream)

    asyncio.run(scenario())


def test_timeout_and_drain_reach_a_waiting_reader() -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        bridge = make(engine)
        late, drained, done = submit(bridge, "late", 0.02), submit(bridge, "drained"), submit(bridge, "done", 0.02)
        engine.feed(delta("done", "x", FinishReason.STOP))
        assert await texts(done) == [["x"]]
        done.close()
        with pytest.raises(RequestTimeoutError, match=r"0\.02 s"):
            await anext(late)
        waiting = asyncio.create_task(texts(drained))
        await asyncio.sleep(0)
        bridge.fail_all(DrainingError("going"))
        with pytest.raises(DrainingError):
            await waiting
        late.close()
        drained.close()
        assert set(engine.cancelled) == {"late", "drained"}

    asyncio.run(scenario())


def test_a_stream_of_several_requests_and_answers_ends_with_the_last() -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        stream = make(engine).submit([Request("1", (1,), 1, num_choices=2), Request("2", (1,), 1)], CONTEXT)
        engine.feed(delta("1", "a", FinishReason.STOP), delta("2", "b", FinishReason.LENGTH))
        assert [d.text for d in await anext(stream)] == ["a", "b"]
        assert stream.open_ids == ["1"]
        engine.feed(delta("1", "c", FinishReason.STOP))
        assert await texts(stream) == [["c"]]
        stream.close()
        assert engine.cancelled == []

    asyncio.run(scenario())


def test_a_failing_answer_cancels_the_others_of_its_stream() -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        stream = make(engine).submit([Request("1", (1,), 1, num_choices=2), Request("2", (1,), 1)], CONTEXT)
        engine.feed(delta("1", "", FinishReason.ERROR, EngineError("broke")), delta("2", "unheard"))
        with pytest.raises(EngineError, match="broke"):
            await anext(stream)
        stream.close()
        assert engine.cancelled == ["1", "2"]
        engine.feed(*(delta(name, "", FinishReason.CANCELLED) for name in ("1", "2")))
        await asyncio.sleep(0)
        assert stream.open_ids == []

    asyncio.run(scenario())


def test_requests_start_all_or_none() -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        bridge = make(engine)
        with pytest.raises(QueueFullError):
            bridge.submit([Request("1", (1,), 1), Request("refused", (1,), 1)], CONTEXT)
        assert engine.cancelled == ["1"]
        engine.feed(delta("1", "", FinishReason.CANCELLED))
        await asyncio.sleep(0)
        bridge.fail_all(DrainingError("nobody"))

    asyncio.run(scenario())


def test_a_refused_request_leaves_no_stream() -> None:
    async def scenario() -> None:
        engine = ManualEngine()
        bridge = make(engine)
        with pytest.raises(QueueFullError):
            submit(bridge, "refused")
        bridge.fail_all(DrainingError("nobody"))
        assert engine.cancelled == []

    asyncio.run(scenario())


def test_deltas_after_the_loop_is_closed_are_ignored() -> None:
    engine = ManualEngine()

    async def scenario() -> None:
        submit(make(engine), "1")

    asyncio.run(scenario())
    failures: list[threading.ExceptHookArgs] = []
    hook, threading.excepthook = threading.excepthook, failures.append
    try:
        engine.feed(delta("1", "late"), delta("1", "later", FinishReason.STOP))
    finally:
        threading.excepthook = hook
    assert failures == []


def test_a_stream_that_is_not_read_pauses_its_requests_until_it_is() -> None:
    """The size counts: of texts and log-probabilities, over all requests of the stream."""

    async def scenario(large: Delta, num_held: int) -> None:
        engine = ManualEngine()
        bridge = make(engine)
        context = RequestContext.start("c", "", 60)
        stream = bridge.submit([Request(name, (1,), 1) for name in "ab"], context)
        for number in range(num_held + 1):
            assert engine.pauses == []
            engine.feed(replace(large, request_id="ab"[number % 2]))
            await asyncio.sleep(0)
        assert engine.pauses == [("a", True), ("b", True)]
        engine.feed(large)  # of the step that ran meanwhile
        await asyncio.sleep(0)
        assert len(await anext(stream)) == num_held + 2
        assert engine.pauses[2:] == [("a", False), ("b", False)]
        engine.feed(large)
        await anext(stream)
        assert len(engine.pauses) == 4
        stream.close()

    asyncio.run(scenario(delta("a", "x" * (1 << 15)), 7))
    scored = replace(delta("a", "x"), logprobs=(TokenLogprob(1, -1.0, ((1, -1.0),) * 20),) * 10)
    asyncio.run(scenario(scored, 10))
    asyncio.run(scenario(replace(scored, logprobs=(), prompt_logprobs=scored.logprobs), 10))


def test_the_deadline_cancels_the_requests_of_a_reader_that_is_busy() -> None:
    """A reader that waits for its socket does not see the end of the stream. Its rows are free nevertheless."""

    async def scenario() -> None:
        engine = ManualEngine()
        stream = submit(make(engine), "1", timeout=0.05)
        engine.feed(delta("1", "x"))
        await asyncio.sleep(0.2)
        assert engine.cancelled == ["1"]
        assert [[each.text for each in await anext(stream)]] == [["x"]]
        with pytest.raises(RequestTimeoutError):
            await anext(stream)
        stream.close()

    asyncio.run(scenario())
