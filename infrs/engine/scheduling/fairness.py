"""Fairness among tenants: which sequence to preempt, and how tenants share the prefill chunk of a step.

Sequences are preempted only where a token has the same bits however its prompt was chunked
(`Capabilities.chunk_invariant`). A preempted sequence then resumes with the same bytes. A preemption makes the shares
of two tenants more equal, so preemptions come to an end by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from infrs.engine.scheduling.placement import Slot
from infrs.engine.sequence import Sequence

MAX_PREEMPTIONS = 3  # of one sequence: each costs a wait, and a copy or a recomputation of its keys and values


def choose_victim(running: Iterable[Sequence], tenant: str) -> Sequence | None:
    """Return the sequence to preempt for `tenant`, or None.

    `running` is in the order in which the sequences got their rows. The victim is the youngest of the tenant that runs
    most, if that tenant runs at least two more than `tenant`. A paused sequence of any tenant comes before the others.
    """
    youngest_first = list(running)[::-1]
    num_running = Counter(sequence.request.tenant for sequence in youngest_first)
    candidates = [
        sequence
        for sequence in youngest_first
        if (sequence.paused or num_running[sequence.request.tenant] >= num_running[tenant] + 2)
        and sequence.num_preemptions < MAX_PREEMPTIONS
    ]
    return max(candidates, key=lambda each: (each.paused, num_running[each.request.tenant]), default=None)


def usable(free: Iterable[Slot], sequence: Sequence, clock: int, patience: int) -> list[int]:
    """Return the rows of the free slots that a sequence may have in step `clock`.

    A preempted sequence leaves a slot empty for `patience` steps after another tenant's sequence has ended there.
    Otherwise a tenant that asks one short question after the other would preempt it each time, up to the limit
    (anticipatory scheduling, Iyer and Druschel, SOSP 2001).
    """
    tenant, is_first = sequence.request.tenant, not sequence.num_preemptions
    return [slot.row for slot in free if is_first or slot.left_by == tenant or clock - slot.left_at > patience]


def by_need(sequences: Iterable[Sequence]) -> list[list[Sequence]]:
    """Group sequences by tenant, in order. The tenant with the fewest tokens to prefill comes first.

    Giving each tenant in turn an equal part of the remaining budget is max-min fair: what one does not need, the
    others share.
    """
    queues: dict[str, list[Sequence]] = {}
    for sequence in sequences:
        queues.setdefault(sequence.request.tenant, []).append(sequence)
    return sorted(queues.values(), key=lambda queue: sum(s.tokens.num_prefill - s.tokens.num_computed for s in queue))
