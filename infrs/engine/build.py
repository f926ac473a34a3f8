"""Build an engine from a verified bundle."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from infrs.bundle.manifest import Manifest
from infrs.bundle.states import StateSize
from infrs.config.settings import EngineSettings
from infrs.engine.engine import Engine
from infrs.engine.runners.opening import bytes_to_open, new_runner, open_session, state_size, try_run
from infrs.engine.runners.runner import Capabilities, Rows, Runner
from infrs.engine.runners.session import Session
from infrs.engine.scheduling.planner import SchedulingPolicy
from infrs.engine.speculation.draft_model import DraftModel
from infrs.engine.speculation.timed import TimedRunner
from infrs.engine.state_memory import num_draft_rows, plan_rows
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
    draft: tuple[Path, Manifest] | None = None,
) -> Engine:
    """Open the graph and allocate its rows.

    shown: control tokens that have a text. memory: what the model may use, None for all that is free now. draft: the
    bundle and the manifest of a draft model with the same vocabulary.

    Raises BundleError if a graph cannot be opened, ConfigError if settings exceed the model's context or the memory, or
    if the models cannot verify or draft tokens.
    """
    _check_context(settings.max_model_len, manifest.context_length)
    memory = memory or read_memory()
    session = _open(bundle, manifest, settings)
    draft_session, draft_size = None, StateSize(0)
    if draft is not None:
        draft_session = _open(*draft, settings)
        draft_size = StateSize(num_draft_rows(settings) * state_size(draft_session, draft[1]).per_token)
    size = state_size(session, manifest)
    rows = plan_rows(size, manifest.context_length, settings, memory, draft_size)
    runner = _start(bundle, session, manifest, rows)
    draft_model = None
    if draft is not None and draft_session is not None:
        draft_rows = Rows(num_draft_rows(settings), min(rows.capacity, draft[1].context_length))
        draft_runner = _start(draft[0], draft_session, draft[1], draft_rows)
        _check_drafts(manifest, runner.capabilities, draft[1], draft_runner.capabilities)
        runner = timed = TimedRunner(runner)
        draft_model = DraftModel(TimedRunner(draft_runner), timed, settings.prefill_chunk)
    eos_ids = frozenset(manifest.special_tokens.eos)
    new_decoder = partial(Detokenizer, tokenizer, shown=shown)
    policy = SchedulingPolicy(drafts=settings.speculation)
    return Engine(runner, new_decoder, eos_ids, settings.prefill_chunk, policy, draft_model=draft_model)


def _open(bundle: Path, manifest: Manifest, settings: EngineSettings) -> Session:
    try:
        return open_session(bundle, manifest, threads=settings.threads, kernels=settings.kernel_options)
    except MemoryError:
        raise _too_large(0) from None


def _start(bundle: Path, session: Session, manifest: Manifest, rows: Rows) -> Runner:
    """Allocate the rows of a session and try it."""
    state_bytes = rows.max_bytes(state_size(session, manifest))
    try:
        with limit_growth(bytes_to_open(bundle) + state_bytes):
            runner = new_runner(session, manifest, rows)
            try_run(runner, manifest.vocab_size)
    except MemoryError:
        raise _too_large(state_bytes) from None
    return runner


def _check_drafts(manifest: Manifest, target: Capabilities, draft_manifest: Manifest, draft: Capabilities) -> None:
    """Raise ConfigError if a model cannot verify draft tokens, or if its draft model cannot drop rejected ones."""
    name, reason = manifest.source.model_id, ""
    if not draft.truncatable:
        name, reason = draft_manifest.source.model_id, "keeps states from which a rejected token cannot be dropped"
    elif not target.truncatable:
        reason = "keeps states from which a rejected token cannot be dropped"
    elif not target.verifies_drafts:
        reason = "does not run on infrs's kernels alone, so a token's bits depend on the tokens of its run"
    if reason:
        raise ConfigError(f"model.draft: {name} {reason}; remove model.draft", param="model.draft")


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
