"""Fairness among tenants: whose slot is taken, and in which order they share a step's chunk of prompts.

Only where a token has the same bits however its sequence was cut into runs (`Capabilities.chunk_invariant`): there who
has lost a slot goes on later to the same bytes. A swap makes two tenants' shares of the slots more equal, so swaps come
to an end by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from infrs.engine.scheduling.slots import Slot
from infrs.engine.sequence import Sequence

MAX_PREEMPTIONS = 3  # of one sequence: each costs it a wait, and a copy of its keys and values or their computation
_PATIENCE = 16  # steps


def choose_victim(running: Iterable[Sequence], tenant: str) -> Sequence | None:
    """Who of those that run, in the order they got their slots, is to make room for `tenant`.

    The youngest of the tenant that runs most, if that is two more than `tenant` runs or more; None if nobody may.
    """
    youngest_first = list(running)[::-1]
    num_running = Counter(sequence.request.tenant for sequence in youngest_first)
    candidates = [
        sequence
        for sequence in youngest_first
        if num_running[sequence.request.tenant] >= num_running[tenant] + 2
        and sequence.num_preemptions < MAX_PREEMPTIONS
    ]
    return max(candidates, key=lambda sequence: num_running[sequence.request.tenant], default=None)


def usable(free: Iterable[Slot], sequence: Sequence, clock: int) -> list[Slot]:
    """The free slots that a sequence may have in step `clock`.

    Who lost a slot to another tenant leaves it empty for some steps when that one's sequence has ended: who asks one
    short question after the other would else take it away again at once, and soon find nobody who may lose one more
    (anticipatory scheduling, Iyer and Druschel, SOSP 2001).
    """
    if not sequence.num_preemptions:
        return list(free)
    return [slot for slot in free if slot.left_by == sequence.request.tenant or clock - slot.left_at > _PATIENCE]


def by_need(sequences: Iterable[Sequence]) -> list[list[Sequence]]:
    """Sequences by tenant, each tenant's in their order; the tenant with fewest tokens to prefill comes first.

    Whoever gives each in turn an equal part of what is left gives all an equal part, and what one does not need to the
    others (max-min fairness).
    """
    queues: dict[str, list[Sequence]] = {}
    for sequence in sequences:
        queues.setdefault(sequence.request.tenant, []).append(sequence)
    return sorted(queues.values(), key=lambda queue: sum(s.num_prefill_tokens - s.num_computed_tokens for s in queue))
