"""Build an engine from a verified bundle."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from infrs.bundle.manifest import Manifest
from infrs.config.settings import EngineSettings
from infrs.engine.engine import Engine
from infrs.engine.runners.opening import bytes_to_open, kv_bytes_per_token, new_runner, open_session, try_run
from infrs.errors import ConfigError
from infrs.machine.memory import Memory, limit_growth, read_memory
from infrs.text.detokenizer import Detokenizer
from infrs.text.tokenizer import Tokenizer

# Keys and values can take half of the free memory. The other half is for the weights and other processes.
_AUTOMATIC_SHARE = 0.5
# Rows that only cache can take an eighth of all memory: 2 GB of a desktop with 16 GB.
_AUTOMATIC_CACHE_SHARE = 0.125
_MIN_CAPACITY = 16


def load_engine(
    bundle: Path,
    manifest: Manifest,
    settings: EngineSettings,
    tokenizer: Tokenizer,
    shown: frozenset[int] = frozenset(),
    *,
    memory: Memory | None = None,
) -> Engine:
    """Open the graph and allocate its rows.

    shown: control tokens that have a text. memory: what the model may use, None for all that is free now.

    Raises BundleError if the graph cannot be opened, ConfigError if settings exceed the model's context or the memory.
    """
    _check_context(settings.max_model_len, manifest.context_length)
    memory = memory or read_memory()
    try:
        session = open_session(bundle, manifest, threads=settings.threads, kernels=settings.kernel_options)
    except MemoryError:
        raise _too_large(0) from None
    token_bytes = kv_bytes_per_token(session, manifest)
    capacity = choose_capacity(token_bytes, manifest.context_length, settings, memory.available)
    spare = count_spare_rows(token_bytes, capacity, settings, memory)
    rows = settings.max_num_seqs
    kv_bytes = (rows + spare + 1) * (capacity + _MIN_CAPACITY) * token_bytes
    try:
        with limit_growth(bytes_to_open(bundle) + kv_bytes):
            runner = new_runner(session, manifest, num_rows=rows, num_spare_rows=spare, capacity=capacity)
            try_run(runner, manifest.vocab_size)
    except MemoryError:
        raise _too_large(kv_bytes) from None
    eos_ids = frozenset(manifest.special_tokens.eos)
    return Engine(runner, partial(Detokenizer, tokenizer, shown=shown), eos_ids, settings.prefill_chunk)


def _check_context(asked: int, context_length: int) -> None:
    """Raise ConfigError for a context above the model's. A large graph takes minutes to open, so this comes first."""
    if asked > context_length:
        raise ConfigError(
            f"engine.max_model_len is {asked}, but the model's context ends at {context_length}; lower it",
            param="engine.max_model_len",
        )


def _too_large(kv_bytes: int) -> ConfigError:
    """Return the error for a model, with its keys and values, that does not fit in memory."""
    need = f" and {(kv_bytes >> 20) + 1} MiB of keys and values need" if kv_bytes else " needs"
    return ConfigError(
        f"this process may not take the memory that the model{need}; lower engine.max_num_seqs, engine.max_model_len "
        "or engine.kv_budget_mb, or raise the limit (ulimit -v)",
        param="engine.kv_budget_mb",
    )


def choose_capacity(token_bytes: int, context_length: int, settings: EngineSettings, available: int) -> int:
    """Return the tokens of a row: `max_model_len`, or the model's context as far as the KV budget allows.

    token_bytes: the size of a token's keys and values. available: free memory in bytes.
    Raises ConfigError if the budget is too small for `max_model_len`.
    """
    budget = _budget(settings, available)
    affordable = budget // (settings.max_num_seqs * token_bytes)
    wanted = settings.max_model_len or max(min(context_length, affordable), _MIN_CAPACITY)
    if wanted > affordable:
        needed = wanted * settings.max_num_seqs * token_bytes >> 20
        raise ConfigError(
            f"{settings.max_num_seqs} sequences of {wanted} tokens need {needed + 1} MiB of keys and values, but the "
            f"budget is {budget >> 20} MiB; lower engine.max_num_seqs or engine.max_model_len, or "
            "raise engine.kv_budget_mb",
            param="engine.kv_budget_mb",
        )
    return wanted


def count_spare_rows(token_bytes: int, capacity: int, settings: EngineSettings, memory: Memory) -> int:
    """Return the number of rows for finished requests: as many as fit in the budget, at most `max_num_seqs`.

    Without `kv_budget_mb`, they take at most an eighth of all memory.
    """
    row_bytes, rows = capacity * token_bytes, settings.max_num_seqs
    left = _budget(settings, memory.available) - rows * row_bytes
    if not settings.kv_budget_mb:
        left = min(left, int(memory.total * _AUTOMATIC_CACHE_SHARE))
    return max(0, min(left // row_bytes, rows))


def max_kv_bytes(token_bytes: int, context_length: int, settings: EngineSettings, memory: Memory) -> int:
    """Return the most bytes that the keys and values of all rows take: `choose_capacity` and `count_spare_rows`."""
    longest = settings.max_model_len or context_length
    return min(_budget(settings, memory.available), 2 * settings.max_num_seqs * longest * token_bytes)


def _budget(settings: EngineSettings, available: int) -> int:
    """Return the bytes for keys and values."""
    return settings.kv_budget_mb << 20 or int(available * _AUTOMATIC_SHARE)
