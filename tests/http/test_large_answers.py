"""A thread formats the body of a large answer that is not streamed, so that the event loop stays free."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from infrs.api.output.prepared import Prepared
from infrs.core import Delta, RequestContext, TokenLogprob, Usage
from infrs.errors import RequestError
from infrs.http.respond import _whole
from infrs.models.text_pool import TextPool

PATIENCE = 20.0  # seconds; a fault makes a test fail rather than wait forever
SCORED = TokenLogprob(1, -1.0, tuple((token_id, -2.0) for token_id in range(20)))
LARGE = [Delta("r", "a", (1,), Usage(1, 1), logprobs=(SCORED,))] * 300  # 0.8 MB
SMALL = LARGE[:100]


class Stream:
    """A stream of deltas in batches of 50."""

    def __init__(self, deltas: Sequence[Delta]) -> None:
        self._batches = iter([deltas[start : start + 50] for start in range(0, len(deltas), 50)])

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        try:
            return next(self._batches)
        except StopIteration:
            raise StopAsyncIteration from None


def answer(stream: Stream, whole: Any) -> bytes:
    """Return the body that `_whole` makes with a presenter's function."""

    async def run() -> bytes:
        pool = TextPool(max_waiting=1, queue_timeout=PATIENCE)
        try:
            state = SimpleNamespace(text=pool)
            context = RequestContext.start("r", "tenant", PATIENCE)
            request: Any = SimpleNamespace(
                app=SimpleNamespace(ctx=SimpleNamespace(state=state)), ctx=SimpleNamespace(context=context)
            )
            prepared = Prepared((), SimpleNamespace(whole=whole), stream=False)  # type: ignore[arg-type]
            return await _whole(request, prepared, stream, SimpleNamespace(count=len))  # type: ignore[arg-type]
        finally:
            pool.close()

    return asyncio.run(run())


@pytest.mark.parametrize(("deltas", "thread"), [(SMALL, "MainThread"), (LARGE, "infrs-answers_0")])
def test_the_thread_that_formats_an_answer(deltas: list[Delta], thread: str) -> None:
    def whole(given: Sequence[Delta]) -> bytes:
        assert given == deltas
        return threading.current_thread().name.encode()

    assert answer(Stream(deltas), whole) == thread.encode()


def test_the_event_loop_runs_while_a_large_answer_is_formatted() -> None:
    free = threading.Event()

    class Batches(Stream):
        async def __anext__(self) -> Sequence[Delta]:
            asyncio.get_running_loop().call_later(0.001, free.set)
            return await super().__anext__()

    assert answer(Batches(LARGE), lambda _: b"free" if free.wait(PATIENCE) else b"held") == b"free"


def test_no_garbage_is_collected_while_a_large_answer_is_formatted() -> None:
    assert answer(Stream(LARGE), lambda _: str(gc.isenabled()).encode()) == b"False"
    assert gc.isenabled()


@pytest.mark.parametrize("deltas", [SMALL, LARGE], ids=["small", "large"])
def test_an_error_of_a_presenter_is_raised(deltas: list[Delta]) -> None:
    def whole(_: Sequence[Delta]) -> bytes:
        raise RequestError("the model wrote no summary")

    with pytest.raises(RequestError, match="no summary"):
        answer(Stream(deltas), whole)
