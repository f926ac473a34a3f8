"""The queue of text work: turns among keys, threads kept free, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.errors import QueueFullError
from infrs.models.fair_queue import FairQueue, Line

A, B, C, D = (Line(name, is_long=False) for name in "ABCD")
LONG_A = Line("A", is_long=True)


def filled(*lines: Line, num_threads: int = 4, max_waiting: int = 8) -> FairQueue[int]:
    """Return a queue with a job for each line; a job is its place in `lines`."""
    queue: FairQueue[int] = FairQueue(num_threads, max_waiting)
    for job, line in enumerate(lines):
        queue.add(line, job)
    return queue


def taken(queue: FairQueue[int]) -> list[int]:
    """Take all jobs that may start."""
    jobs = []
    while (found := queue.take()) is not None:
        jobs.append(found[1])
    return jobs


@pytest.mark.parametrize(
    ("lines", "started"),
    [
        ([A] * 8, [0, 1]),  # a key leaves threads for others
        ([A] * 4 + [B], [0, 4, 1]),
        ([A] * 4 + [B, C, D], [0, 4, 5, 6]),  # one each
        ([A] * 4 + [LONG_A], [0, 4]),
        ([LONG_A] * 4, [0]),  # the other thread stays for short work
        ([LONG_A, LONG_A, A], [0, 2]),
    ],
)
def test_keys_share_the_threads(lines: list[Line], started: list[int]) -> None:
    assert taken(filled(*lines)) == started


def test_keys_take_turns() -> None:
    queue = filled(*[A] * 4, *[B] * 2, num_threads=1)
    order = []
    while (found := queue.take()) is not None:
        order.append(found[1])
        queue.ended(found[0])
    assert order == [0, 4, 1, 5, 2, 3]


def test_work_of_a_new_key_waits_for_no_long_work_of_another() -> None:
    queue = filled(*[LONG_A] * 8, *[A] * 8, max_waiting=16)
    assert len(taken(queue)) == 2
    queue.add(B, 99)
    assert taken(queue) == [99]


def test_a_key_beyond_its_places_is_refused_and_another_is_not() -> None:
    queue = filled(*[A] * 8)
    with pytest.raises(QueueFullError, match="the texts of 8 requests wait"):
        queue.add(LONG_A, 8)
    queue.add(B, 9)


def test_all_keys_together_have_a_bound() -> None:
    queue = filled(*[Line(str(number), is_long=False) for number in range(32)])
    with pytest.raises(QueueFullError):
        queue.add(A, 32)


def test_a_discarded_job_never_starts() -> None:
    queue = filled(A, A, B)
    assert queue.discard(A, 0)
    assert not queue.discard(A, 0)
    assert taken(queue) == [1, 2]
    assert not queue.discard(A, 1)


@given(st.lists(st.tuples(st.sampled_from([A, B, C, LONG_A]), st.booleans()), max_size=60))
def test_every_job_starts_once_within_the_limits(events: list[tuple[Line, bool]]) -> None:
    """An event adds a job and, where it says so, ends the oldest running one."""
    queue: FairQueue[int] = FairQueue(4, 60)
    running: list[tuple[Line, int]] = []
    started: list[int] = []

    def start() -> None:
        while (found := queue.take()) is not None:
            running.append(found)
            started.append(found[1])
            assert len(running) <= 4
            assert all(sum(each.tenant == line.tenant for each, _ in running) <= 2 for line, _ in running)
            assert sum(line.is_long for line, _ in running) <= 1

    def end() -> None:
        if running:
            queue.ended(running.pop(0)[0])
        start()

    for job, (line, ends) in enumerate(events):
        queue.add(line, job)
        start()
        if ends:
            end()
    while running:
        end()
    assert sorted(started) == list(range(len(events)))
    for line in (A, B, C, LONG_A):
        jobs = [job for job in started if events[job][0] == line]
        assert jobs == sorted(jobs)
