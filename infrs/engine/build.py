"""Build an engine from a verified bundle."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from infrs.bundle.manifest import Manifest
from infrs.config.settings import EngineSettings
from infrs.engine.engine import Engine
from infrs.engine.runners.opening import bytes_to_open, new_runner, open_session, state_size, try_run
from infrs.engine.state_memory import plan_rows
from infrs.errors import ConfigError
from infrs.machine.memory import Memory, limit_growth, read_memory
from infrs.text.detokenizer import Detokenizer
from infrs.text.tokenizer import Tokenizer


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
    size = state_size(session, manifest)
    rows = plan_rows(size, manifest.context_length, settings, memory)
    state_bytes = rows.max_bytes(size)
    try:
        with limit_growth(bytes_to_open(bundle) + state_bytes):
            runner = new_runner(session, manifest, rows)
            try_run(runner, manifest.vocab_size)
    except MemoryError:
        raise _too_large(state_bytes) from None
    eos_ids = frozenset(manifest.special_tokens.eos)
    return Engine(runner, partial(Detokenizer, tokenizer, shown=shown), eos_ids, settings.prefill_chunk)


def _check_context(asked: int, context_length: int) -> None:
    """Raise ConfigError for a context above the model's. A large graph takes minutes to open, so this comes first."""
    if asked > context_length:
        raise ConfigError(
            f"engine.max_model_len is {asked}, but the model's context ends at {context_length}; lower it",
            param="engine.max_model_len",
        )


def _too_large(state_bytes: int) -> ConfigError:
    """Return the error for a model that does not fit in memory with the states of its rows."""
    need = f" and {(state_bytes >> 20) + 1} MiB of keys and values need" if state_bytes else " needs"
    return ConfigError(
        f"this process may not take the memory that the model{need}; lower engine.max_num_seqs, engine.max_model_len "
        "or engine.kv_budget_mb, or raise the limit (ulimit -v)",
        param="engine.kv_budget_mb",
    )
