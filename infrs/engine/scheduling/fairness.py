"""Fairness among tenants and the requests of each: which sequence to preempt, how to share a step's prefill chunk.

Sequences are preempted only where a token has the same bits however its prompt was chunked
(`Capabilities.chunk_invariant`). A preempted sequence then resumes with the same bytes. A preemption makes the shares
of two tenants more equal, or those of two requests of a tenant. So preemptions come to an end by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from infrs.engine.scheduling.placement import Slot
from infrs.engine.sequence import Sequence

MAX_PREEMPTIONS = 3  # of one sequence: each costs a wait, and a copy or a recomputation of its keys and values


def choose_victim(running: Iterable[Sequence], sequence: Sequence) -> Sequence | None:
    """Return the sequence to preempt for one that waits, or None.

    `running` is in the order in which the sequences got their rows. The tenant that runs most loses one, if it runs at
    least two more than the tenant in turn. Of a tenant's requests, the one that runs most loses its youngest sequence.
    A request of the tenant in turn loses one if it runs at least two more than the request in turn: one request with
    many answers leaves room for others. A paused sequence of any request comes before the others.
    """
    youngest_first = list(running)[::-1]
    by_tenant = Counter(each.request.tenant for each in youngest_first)
    by_request = Counter(each.request.request_id for each in youngest_first)
    tenant, request_id = sequence.request.tenant, sequence.request.request_id

    def has_too_many(each: Sequence) -> bool:
        if each.request.tenant == tenant:
            return by_request[each.request.request_id] >= by_request[request_id] + 2
        return by_tenant[each.request.tenant] >= by_tenant[tenant] + 2

    return max(
        (
            each
            for each in youngest_first
            if each.num_preemptions < MAX_PREEMPTIONS and (each.paused or has_too_many(each))
        ),
        key=lambda each: (each.paused, by_tenant[each.request.tenant], by_request[each.request.request_id]),
        default=None,
    )


def usable(
    free: Iterable[Slot], sequence: Sequence, running: Iterable[Sequence], clock: int, patience: int
) -> list[int]:
    """Return the rows of the free slots that a sequence may have in step `clock`.

    A preempted sequence leaves a slot empty for `patience` steps after the sequence of another tenant has ended there,
    or of another request while its own runs. Otherwise a client that asks one short question after the other would
    preempt it each time, up to the limit (anticipatory scheduling, Iyer and Druschel, SOSP 2001).
    """
    request = sequence.request
    is_first = not sequence.num_preemptions
    runs = any(other.request is request for other in running)

    def is_own(slot: Slot) -> bool:
        tenant, request_id = slot.left_by
        return tenant == request.tenant and (request_id == request.request_id or not runs)

    return [slot.row for slot in free if is_first or is_own(slot) or clock - slot.left_at > patience]


def by_need(sequences: Iterable[Sequence]) -> list[list[Sequence]]:
    """Group sequences by tenant, in order. The tenant with the fewest tokens to prefill comes first.

    Giving each tenant in turn an equal part of the remaining budget is max-min fair: what one does not need, the
    others share.
    """
    queues: dict[str, list[Sequence]] = {}
    for sequence in sequences:
        queues.setdefault(sequence.request.tenant, []).append(sequence)
    return sorted(queues.values(), key=lambda queue: sum(s.tokens.num_prefill - s.tokens.num_computed for s in queue))
