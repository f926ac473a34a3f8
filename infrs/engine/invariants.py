"""Rules that hold between any two steps. Tests check them after each step, and the service while it is idle."""

from __future__ import annotations

from collections.abc import Iterator

from infrs.engine.engine import Engine
from infrs.engine.scheduling.fairness import MAX_PREEMPTIONS
from infrs.engine.scheduling.scheduler import Scheduler
from infrs.engine.sequence import Sequence


def violations(engine: Engine) -> list[str]:
    """Return a sentence for each broken rule; empty if all rules hold."""
    scheduler = engine.scheduler
    found = [*_of_slots(scheduler), *_of_the_queue(scheduler)]
    for sequence in (*scheduler.running, *scheduler.waiting):
        found += _of_sequence(sequence, engine)
    return found


def _of_slots(scheduler: Scheduler) -> Iterator[str]:
    rows, slots = [*scheduler.running.values()], scheduler.placement.slots
    if len(set(rows)) != len(rows):
        yield f"two sequences share a row: {rows}"
    for row in scheduler.limits.rows:
        if len(slots[row].cached) % scheduler.limits.reuse_alignment:
            yield f"row {row} caches part of a chunk"
    tokens: dict[int, tuple[int, ...]] = {}
    for row, slot in slots.items():
        for each in slot.snapshots or ():
            covered = slot.cached[: each.num_tokens]
            if len(covered) < each.num_tokens:
                yield f"row {row} has a snapshot of {each.num_tokens} tokens but caches {len(slot.cached)}"
            if tokens.setdefault(each.number, covered) != covered:
                yield f"two rows have snapshot {each.number} after different tokens"
    for sequence, row in scheduler.running.items():
        if slots[row].is_current and sequence.tokens.num_computed:
            yield f"row {row} has the states of its cached tokens, although {sequence.request.request_id} has begun"
    for sequence, row in scheduler.running.items():
        name, cached, num_computed = sequence.request.request_id, slots[row].cached, sequence.tokens.num_computed
        if num_computed and cached != sequence.tokens[: len(cached)]:
            yield f"row {row} caches other tokens than those of {name}"
        if num_computed and len(cached) > num_computed:
            yield f"row {row} caches more than {name} has computed"


def _of_the_queue(scheduler: Scheduler) -> Iterator[str]:
    fresh: set[str] = set()  # tenants with a waiting sequence that has never had a row
    for sequence in scheduler.waiting:
        name, tenant = sequence.request.request_id, sequence.request.tenant
        if sequence in scheduler.running:
            yield f"{name} runs and waits"
        if sequence.tokens.num_computed:
            yield f"{name} waits with {sequence.tokens.num_computed} computed tokens"
        if not sequence.num_preemptions:
            fresh.add(tenant)
        elif tenant in fresh:
            yield f"{name} was preempted and waits behind one that never had a row"


def _of_sequence(sequence: Sequence, engine: Engine) -> Iterator[str]:
    name, num_preemptions, tokens = sequence.request.request_id, sequence.num_preemptions, sequence.tokens
    num_output, num_computed = len(tokens.output_ids), tokens.num_computed
    if sequence.finish_reason is not None:
        yield f"{name} has finished but is still in the engine"
    if tokens.is_prefilling and num_output and not num_preemptions:
        yield f"{name} has output before its prompt is computed"
    if num_preemptions > (MAX_PREEMPTIONS if engine.scheduler.limits.exact else 0):
        yield f"{name} was preempted {num_preemptions} times"
    if not tokens.is_prefilling and num_computed != len(tokens) - 1:
        yield f"{name} has {num_computed} computed tokens but {num_output} output tokens"
    if num_computed > engine.runner.capacity:
        yield f"{name} is longer than its row"
