"""Plan the memory of a model's states: how many rows and snapshots, and how long a row is."""

from __future__ import annotations

from infrs.bundle.states import StateSize
from infrs.config.settings import EngineSettings
from infrs.engine.runners.runner import Rows
from infrs.errors import ConfigError
from infrs.machine.memory import Memory

# Keys and values can take half of the free memory. The other half is for the weights and other processes.
_AUTOMATIC_SHARE = 0.5
# Rows and snapshots that only cache can take an eighth of all memory: 2 GB of a desktop with 16 GB.
_AUTOMATIC_CACHE_SHARE = 0.125
_MIN_CAPACITY = 16
_MAX_SNAPSHOTS = 4  # for each row
_MAX_DRAFT_ROWS = 4  # a conversation, and the short requests of its client between two turns, keep theirs
_NOTHING = StateSize(0)


def num_draft_rows(settings: EngineSettings) -> int:
    """Return the number of rows of a draft model."""
    return min(settings.max_num_seqs, _MAX_DRAFT_ROWS)


def plan_rows(
    size: StateSize, context_length: int, settings: EngineSettings, memory: Memory, draft: StateSize = _NOTHING
) -> Rows:
    """Return the rows of a model. Raises ConfigError if the budget is too small for `max_model_len`.

    draft: the size of all rows of its draft model together, which are as long as its own.

    Rows and snapshots for finished requests use what the budget leaves, at most one row and four snapshots for each
    running sequence. Without `kv_budget_mb`, they take at most an eighth of all memory, and snapshots half of that.
    """
    num_rows = settings.max_num_seqs
    capacity = choose_capacity(size, context_length, settings, memory.available, draft)
    left = _budget(settings, memory.available) - num_rows * size.of_row(capacity) - draft.of_row(capacity)
    if not settings.kv_budget_mb:
        left = min(left, int(memory.total * _AUTOMATIC_CACHE_SHARE))
    num_snapshots = max(0, min(left // 2 // size.fixed, _MAX_SNAPSHOTS * num_rows)) if size.fixed else 0
    left -= num_snapshots * size.fixed
    num_spare_rows = max(0, min(left // size.of_row(capacity), num_rows))
    return Rows(num_rows, capacity, num_spare_rows, num_snapshots)


def choose_capacity(
    size: StateSize, context_length: int, settings: EngineSettings, available: int, draft: StateSize = _NOTHING
) -> int:
    """Return the tokens of a row: `max_model_len`, or the model's context as far as the KV budget allows.

    available: free memory in bytes. Raises ConfigError if the budget is too small for `max_model_len`.
    """
    budget, num_rows = _budget(settings, available), settings.max_num_seqs
    longest = settings.max_model_len or context_length
    per_token = num_rows * size.per_token + draft.per_token
    affordable = longest if not per_token else (budget - num_rows * size.fixed) // per_token
    wanted = settings.max_model_len or max(min(context_length, affordable), min(_MIN_CAPACITY, context_length))
    needed = num_rows * size.of_row(wanted) + draft.of_row(wanted)
    if needed > budget:
        raise ConfigError(
            f"{num_rows} sequences of {wanted} tokens need {(needed >> 20) + 1} MiB of keys and values, but the "
            f"budget is {budget >> 20} MiB; lower engine.max_num_seqs or engine.max_model_len, or "
            "raise engine.kv_budget_mb",
            param="engine.kv_budget_mb",
        )
    return wanted


def max_state_bytes(
    size: StateSize, context_length: int, settings: EngineSettings, memory: Memory, draft: StateSize = _NOTHING
) -> int:
    """Return the most bytes that the states of all rows and snapshots of `plan_rows` take."""
    longest, num_rows = settings.max_model_len or context_length, settings.max_num_seqs
    all_rows = num_rows * (2 * size.of_row(longest) + _MAX_SNAPSHOTS * size.fixed) + draft.of_row(longest)
    return min(_budget(settings, memory.available), all_rows)


def _budget(settings: EngineSettings, available: int) -> int:
    """Return the bytes for the states."""
    return settings.kv_budget_mb << 20 or int(available * _AUTOMATIC_SHARE)
