"""Snapshots: copies of the states that cannot be truncated, from which later requests resume.

A sequence can resume behind any cached token if all states are keys and values. A recurrent or convolution state covers
exactly the tokens that have been computed. So the engine saves it at points that another request is likely to share:
the end of the first turn (a system prompt), the end of the last one (the next request of a conversation repeats
all turns, but often not the beginning of the answer that the template has added), and the last whole chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The snapshot `number` of the state store, saved after `num_tokens` tokens."""

    number: int
    num_tokens: int


def save_points(prompt_ids: Sequence[int], turn_ends: Set[int], alignment: int, chunk: int) -> tuple[int, ...]:
    """Return after how many tokens of a prompt to save snapshots, ascending multiples of `alignment`.

    turn_ends: the tokens that end a turn. chunk: the number of tokens in a whole chunk of prefill. At least one token
    of the prompt follows each point.
    """
    last = max(len(prompt_ids) - 1, 0)
    ends = [place + 1 for place, token_id in enumerate(prompt_ids[:last]) if token_id in turn_ends]
    points = {end // alignment * alignment for end in (*ends[:1], *ends[-1:])}
    return tuple(sorted((points | {last // chunk * chunk}) - {0}))


def choose_number(num_snapshots: int, used: Iterable[tuple[int, Snapshot]], reserved: Set[int]) -> int | None:
    """Return the number for a new snapshot: a free one, or that of the snapshot used longest ago.

    used: each snapshot with the step in which its slot was last used. Several slots may have the same snapshot.
    reserved: numbers that the step needs. None if all numbers are reserved.
    """
    last_used = dict.fromkeys(set(range(num_snapshots)) - reserved, -1)
    for step, snapshot in used:
        if snapshot.number in last_used:
            last_used[snapshot.number] = max(step, last_used[snapshot.number])
    return min(last_used, key=lambda number: (last_used[number], number), default=None)
