"""What must hold between any two steps: a function that returns violations, for tests and for idle moments."""

from __future__ import annotations

from collections.abc import Iterator

from infrs.engine.engine import Engine
from infrs.engine.scheduling.fairness import MAX_PREEMPTIONS
from infrs.engine.scheduling.scheduler import Scheduler
from infrs.engine.sequence import Sequence


def violations(engine: Engine) -> list[str]:
    """Every broken rule, in words; empty if all is well."""
    scheduler = engine.scheduler
    found = [*_of_slots(scheduler), *_of_the_queue(scheduler)]
    for sequence in (*scheduler.running, *scheduler.waiting):
        found += _of_sequence(sequence, engine)
    return found


def _of_slots(scheduler: Scheduler) -> Iterator[str]:
    rows = [slot.row for slot in scheduler.running.values()]
    if len(set(rows)) != len(rows):
        yield f"two sequences share a row: {rows}"
    for slot in scheduler.slots.serving:
        if len(slot.held) % scheduler.slots.grain:
            yield f"row {slot.row} holds part of a chunk"
    for sequence, slot in scheduler.running.items():
        name, held = sequence.request.request_id, len(slot.held)
        if sequence.num_computed_tokens and slot.held != sequence.token_ids[:held]:
            yield f"row {slot.row} is said to hold other tokens than {name}'s"
        if sequence.num_computed_tokens and held > sequence.num_computed_tokens:
            yield f"row {slot.row} is said to hold more than {name} has computed"


def _of_the_queue(scheduler: Scheduler) -> Iterator[str]:
    fresh: set[str] = set()  # tenants of whom one waits that has never had a slot
    for sequence in scheduler.waiting:
        name, tenant = sequence.request.request_id, sequence.request.tenant
        if sequence in scheduler.running:
            yield f"{name} runs and waits"
        if sequence.num_computed_tokens:
            yield f"{name} waits with {sequence.num_computed_tokens} computed tokens"
        if not sequence.num_preemptions:
            fresh.add(tenant)
        elif tenant in fresh:
            yield f"{name} has lost its slot and waits behind one that never had any"


def _of_sequence(sequence: Sequence, engine: Engine) -> Iterator[str]:
    name, num_preemptions = sequence.request.request_id, sequence.num_preemptions
    num_output, num_computed = len(sequence.output_ids), sequence.num_computed_tokens
    if sequence.finish_reason is not None:
        yield f"{name} has finished but is still held"
    if sequence.is_prefilling and num_output and not num_preemptions:
        yield f"{name} has output before its prompt is computed"
    if num_preemptions > (MAX_PREEMPTIONS if engine.runner.capabilities.chunk_invariant else 0):
        yield f"{name} has lost its slot {num_preemptions} times"
    if not sequence.is_prefilling and num_computed != sequence.num_prompt_tokens + num_output - 1:
        yield f"{name} has {num_computed} computed tokens beside {num_output} output tokens"
    if num_computed > engine.runner.capacity:
        yield f"{name} is longer than its row"
