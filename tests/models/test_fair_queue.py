"""The queue of text work: turns among keys, threads kept free, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.errors import QueueFullError
from infrs.models.fair_queue import FairQueue

A, B, C, D = "ABCD"


def filled(*tenants: str, num_threads: int = 4, most_per_key: int = 2, max_waiting: int = 8) -> FairQueue[int]:
    """Return a queue with a job for each tenant; a job is its place in `tenants`."""
    queue: FairQueue[int] = FairQueue(num_threads, most_per_key, max_waiting)
    for job, tenant in enumerate(tenants):
        queue.add(tenant, job)
    return queue


def taken(queue: FairQueue[int]) -> list[int]:
    """Take all jobs that may start."""
    jobs = []
    while (found := queue.take()) is not None:
        jobs.append(found[1])
    return jobs


@pytest.mark.parametrize(
    ("tenants", "most_per_key", "started"),
    [
        ([A] * 8, 2, [0, 1]),
        ([A] * 8, 4, [0, 1]),  # a key leaves threads for others
        ([A] * 8, 1, [0]),
        ([A] * 4 + [B], 2, [0, 4, 1]),
        ([A] * 4 + [B], 1, [0, 4]),
        ([A] * 4 + [B, C, D], 2, [0, 4, 5, 6]),  # one each
    ],
)
def test_keys_share_the_threads(tenants: list[str], most_per_key: int, started: list[int]) -> None:
    assert taken(filled(*tenants, most_per_key=most_per_key)) == started


def test_keys_take_turns() -> None:
    queue = filled(*[A] * 4, *[B] * 2, num_threads=1)
    order = []
    while (found := queue.take()) is not None:
        order.append(found[1])
        queue.ended(found[0])
    assert order == [0, 4, 1, 5, 2, 3]


def test_work_of_a_new_key_waits_for_no_work_of_another() -> None:
    queue = filled(*[A] * 16, max_waiting=16)
    assert len(taken(queue)) == 2
    queue.add(B, 99)
    assert taken(queue) == [99]


def test_a_key_beyond_its_places_is_refused_and_another_is_not() -> None:
    queue = filled(*[A] * 8)
    with pytest.raises(QueueFullError, match="the texts of 8 requests wait"):
        queue.add(A, 8)
    queue.add(B, 9)


def test_all_keys_together_have_a_bound() -> None:
    queue = filled(*map(str, range(32)))
    with pytest.raises(QueueFullError):
        queue.add(A, 32)


def test_a_discarded_job_never_starts() -> None:
    queue = filled(A, A, B)
    assert queue.discard(A, 0)
    assert not queue.discard(A, 0)
    assert taken(queue) == [1, 2]
    assert not queue.discard(A, 1)


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.booleans()), max_size=60), st.integers(1, 2))
def test_every_job_starts_once_within_the_limits(events: list[tuple[str, bool]], most_per_key: int) -> None:
    """An event adds a job and, where it says so, ends the oldest running one."""
    queue: FairQueue[int] = FairQueue(4, most_per_key, 60)
    running: list[tuple[str, int]] = []
    started: list[int] = []

    def start() -> None:
        while (found := queue.take()) is not None:
            running.append(found)
            started.append(found[1])
            assert len(running) <= 4
            assert all(sum(each == tenant for each, _ in running) <= most_per_key for tenant, _ in running)

    def end() -> None:
        if running:
            queue.ended(running.pop(0)[0])
        start()

    for job, (tenant, ends) in enumerate(events):
        queue.add(tenant, job)
        start()
        if ends:
            end()
    while running:
        end()
    assert sorted(started) == list(range(len(events)))
    for tenant in (A, B, C):
        jobs = [job for job in started if events[job][0] == tenant]
        assert jobs == sorted(jobs)
