"""Copy the state of an engine into values that can be compared."""

from __future__ import annotations

from collections import Counter
from typing import Any

from infrs.engine.engine import Engine
from infrs.engine.sequence import Sequence


def snapshot(engine: Engine) -> list[object]:
    """Return all that a step may change: the placement in its order, the counts, and every sequence."""
    placement = engine.scheduler.placement
    sequences = [*placement.running, *placement.waiting]
    return [
        [*placement.slots.items()],
        [*placement.running.items()],
        [*placement.waiting],
        (placement.clock, placement.num_preemptions),
        (engine.num_steps, engine.num_draft_tokens, engine.num_accepted_tokens),
        [_state_of(sequence) for sequence in sequences],
    ]


def _state_of(sequence: Sequence) -> list[object]:
    tokens = {name: _value(getattr(sequence.tokens, name)) for name in sequence.tokens.__slots__}
    parts = (sequence.sampler, sequence.output, sequence.drafter)
    return [sequence.num_preemptions, tokens, *({name: _value(v) for name, v in vars(part).items()} for part in parts)]


def _value(value: Any) -> object:
    """Return a copy of a container, the state of a generator, and anything else as it is."""
    if isinstance(value, list | dict | Counter):
        return value.copy()
    if hasattr(value, "bit_generator"):
        return repr(value.bit_generator.state)
    return value
