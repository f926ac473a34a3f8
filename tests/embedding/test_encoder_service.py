"""The thread that makes vectors: turns, bounds, cancelling, failing and stopping."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from infrs.errors import DrainingError, EngineError, QueueFullError
from infrs.models.encoders.service import EncoderService

WAIT = 10.0
Start = Callable[["Gate | NoVector", int], EncoderService]


class Gate:
    """An encoder that waits for leave before each text, and notes the texts in the order in which they are run."""

    threads = 1

    def __init__(self) -> None:
        self.leave = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.run: list[int] = []
        self.fails = False

    def encode(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self.run.append(ids[0])
        self.begun.release()
        assert self.leave.acquire(timeout=WAIT)
        if self.fails:
            raise RuntimeError("no")
        return np.full(2, ids[0], np.float32)

    def open(self) -> None:
        self.leave.release(10_000)


@pytest.fixture
def start() -> Iterator[Start]:
    services = []

    def make(encoder: Gate | NoVector, max_queue: int) -> EncoderService:
        services.append(EncoderService(encoder, max_queue))
        services[-1].start()
        return services[-1]

    yield make
    for service in services:
        service.stop(WAIT)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


def test_requests_take_turns_and_keep_their_order(start: Start, gate: Gate) -> None:
    service = start(gate, 2)
    first = service.submit([[1], [2], [3]])
    assert gate.begun.acquire(timeout=WAIT)
    second = service.submit([[11], [12]])
    gate.open()
    assert [vector[0] for vector in first.result(WAIT)] == [1, 2, 3]
    assert [vector[0] for vector in second.result(WAIT)] == [11, 12]
    assert gate.run == [1, 11, 2, 12, 3]
    assert service.snapshot().num_open == 0


def test_the_bound_of_open_requests(start: Start, gate: Gate) -> None:
    service = start(gate, 1)
    futures = [service.submit([[1]]), service.submit([[2]])]
    with pytest.raises(QueueFullError):
        service.submit([[3]])
    futures[1].cancel()  # frees its place immediately
    futures[1] = service.submit([[4]])
    gate.open()
    assert [future.result(WAIT)[0][0] for future in futures] == [1, 4]
    assert 3 not in gate.run


def test_a_cancelled_request_runs_no_further_text(start: Start, gate: Gate) -> None:
    service = start(gate, 1)
    future = service.submit([[1], [2], [3]])
    other = service.submit([[11]])
    assert gate.begun.acquire(timeout=WAIT)
    assert future.cancel()
    gate.open()
    assert other.result(WAIT)
    assert [text for text in gate.run if text < 10] == [1]


def test_a_text_that_fails_ends_its_request_only(start: Start, gate: Gate) -> None:
    service = start(gate, 3)
    gate.open()
    gate.fails = True
    for _ in range(2):
        with pytest.raises(EngineError):
            service.submit([[1], [2]]).result(WAIT)
    gate.fails = False
    assert service.submit([[3]]).result(WAIT)[0][0] == 3
    assert service.alive


def test_three_failures_in_a_row_end_the_thread(start: Start, gate: Gate) -> None:
    service = start(gate, 3)
    gate.open()
    gate.fails = True
    for _ in range(3):
        with pytest.raises(EngineError):
            service.submit([[1]]).result(WAIT)
    service._thread.join(WAIT)
    assert not service.alive
    with pytest.raises(EngineError):
        service.submit([[1]])


class NoVector:
    threads = 1

    def encode(self, ids: Sequence[int]) -> NDArray[np.float32]:
        raise EngineError("no vector")


def test_texts_that_have_no_vector_never_end_the_thread(start: Start) -> None:
    service = start(NoVector(), 1)
    for _ in range(4):
        with pytest.raises(EngineError, match="no vector"):
            service.submit([[1], [2]]).result(WAIT)
    assert service.alive


def test_stopping_ends_what_is_open(start: Start, gate: Gate) -> None:
    service = start(gate, 3)
    futures = [service.submit([[1], [2]]), service.submit([[3]])]
    assert gate.begun.acquire(timeout=WAIT)
    stopper = threading.Thread(target=service.stop, args=(WAIT,))
    stopper.start()
    while not service._stopping:
        pass
    gate.open()
    stopper.join()
    for future in futures:
        with pytest.raises(DrainingError):
            future.result(WAIT)
    with pytest.raises(DrainingError):
        service.submit([[4]])
    assert len(gate.run) == 1


def test_all_requests_may_be_failed_together(start: Start, gate: Gate) -> None:
    service = start(gate, 3)
    future = service.submit([[1], [2]])
    assert gate.begun.acquire(timeout=WAIT)
    service.fail_all(EngineError("gone"))
    with pytest.raises(EngineError, match="gone"):
        future.result(WAIT)
    gate.open()
    assert service.submit([[5]]).result(WAIT)[0][0] == 5
    assert gate.run == [1, 5]
