"""Open bundles and load the models of a server."""

from __future__ import annotations

import gc
import hashlib
import logging
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from infrs.bundle.files import open_files
from infrs.bundle.manifest import (
    KINDS,
    AnyManifest,
    ClassifierManifest,
    EmbeddingManifest,
    Manifest,
    Sampling,
    read_manifest,
)
from infrs.config.settings import EngineSettings, ModelSettings, Settings
from infrs.core import SamplingParams
from infrs.engine.build import load_engine
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.engine.service import EngineService
from infrs.errors import BundleError, ConfigError, EngineError
from infrs.machine.cpus import warn_above_limit
from infrs.machine.memory import Memory, read_memory, return_free_memory
from infrs.models.draft_bundle import DraftBundle, check_vocabulary, find_draft, open_draft
from infrs.models.encoders.classifier import load_classifier
from infrs.models.encoders.embedding_model import load_embedding_model
from infrs.models.encoders.served import ServedClassifier, ServedEmbeddingModel
from infrs.models.load_limit import begin_step, limit_time
from infrs.models.loaded import LoadedModel
from infrs.models.registry import ModelRegistry
from infrs.models.residency.memory_use import max_bytes
from infrs.models.residency.spec import AnyModel, Found, ModelSpec
from infrs.models.served import ServedChatModel, ServedModel
from infrs.native.signals import end_by_signal
from infrs.text.chat.template_files import load_chat_format
from infrs.text.chat.turn_end import find_turn_end
from infrs.text.reasoning.tags import Tags, find_tags
from infrs.text.token_bytes import TokenBytes
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.formats import choose_format
from infrs.text.tools.tool_format import ToolFormat

logger = logging.getLogger("infrs.server")

_TOKEN = re.compile(r"<[^<>]*>")  # a marker can be several tokens
_OPEN_GRAPH = "to open and try its graph"
_SERVED: dict[str, type[ServedModel]] = {
    "chat": ServedChatModel,
    "embedding": ServedEmbeddingModel,
    "classifier": ServedClassifier,
}
_RUNTIME = ("infrs", "onnxruntime", "tokenizers")


async def load_models(
    registry: ModelRegistry,
    chosen: Sequence[tuple[ModelSettings, Path]],
    settings: Settings,
    find: Callable[[ModelSettings], Path] | None = None,
) -> None:
    """Add the models of a server, all with the settings of `engine`, and load those that load at the start.

    chosen: the settings of each model, and its bundle. find: finds the bundle of a model again, before it is loaded
    another time; None if it stays where it is.
    Raises BundleError if a bundle does not match its manifest, ConfigError if the settings do not fit the models,
    OutOfMemoryError if the models do not fit in `server.models_memory_mb`.
    """
    warn_above_limit(settings.engine.threads)
    manifests = [read_manifest(bundle) for _, bundle in chosen]
    check_kinds([model for model, _ in chosen], manifests)
    registry.queue_timeout = settings.server.queue_timeout
    memory, limit = read_memory(), settings.server.models_memory_mb << 20
    if limit:
        memory = Memory(min(memory.total, limit), min(memory.available, limit))
    if limit or any(model.load == "demand" for model, _ in chosen):
        registry.budget = limit or memory.available
    num_chat = sum(isinstance(manifest, Manifest) for manifest in manifests)
    explain_truncation()
    share = memory.share(num_chat) if num_chat > 1 or limit else None
    for (model, bundle), manifest in zip(chosen, manifests, strict=True):
        locate = partial(_find, model, bundle, find, settings.engine, share or memory, is_shared=share is not None)
        registry.add(
            ModelSpec(
                model_id=manifest.source.model_id,
                find=locate,
                found=locate(),
                settings=settings.engine,
                aliases=frozenset(model.aliases),
                kind=_SERVED[manifest.kind],
                at_start=model.load == "start",
                keep_alive=model.keep_alive,
                is_pinned=model.pinned,
            )
        )
    for entry in registry.entries:
        if entry.spec.at_start:
            with limit_time(settings.server.load_timeout, entry.model_id):
                await registry.ensure_loaded(entry.model_id)
    registry.load_timeout = settings.server.load_timeout
    # A full collection walks all that is alive: 90 ms with the vocabulary of a model, in which every stream waits.
    gc.collect()
    gc.freeze()


def _find(
    model: ModelSettings,
    bundle: Path,
    find: Callable[[ModelSettings], Path] | None,
    engine: EngineSettings,
    memory: Memory,
    *,
    is_shared: bool,
) -> Found:
    """Find the bundle of a model as it is now.

    memory: what the model may use. is_shared: it is the model's part, else all that is free at the start.
    Raises BundleError if there is none.
    """
    if find is not None:
        bundle = find(model)
    manifest = read_manifest(bundle)
    draft_bundle = find_draft(model)
    draft = None if draft_bundle is None else read_manifest(draft_bundle)
    return Found(
        partial(load_model, bundle, model, memory=memory if is_shared else None),
        max_bytes(manifest, engine, memory, draft),
        [
            {name: entry.sha256 for name, entry in each.files.items()}
            for each in (manifest, *([] if draft is None else [draft]))
        ],
        manifest,
        partial(load_chat_format, bundle, model.chat_format) if isinstance(manifest, Manifest) else None,
    )


def explain_truncation() -> None:
    """Let SIGBUS end this process with a message, if infrs's library was built.

    The kernel sends it to a thread that reads a mapped file beyond its end.
    """
    end_by_signal(
        signal.SIGBUS,
        EngineError.exit_code,
        "infrs-serve: another program truncated a file that this server has mapped, such as the weights of a model; "
        "export the model again, and mount its files read-only",
    )


def check_kinds(models: Sequence[ModelSettings], manifests: Sequence[AnyManifest]) -> None:
    """Raise ConfigError for chat settings of another kind of model."""
    for model, manifest in zip(models, manifests, strict=True):
        names = ("chat_format", "tool_format", "generation_config", "draft")
        odd = [name for name in names if getattr(model, name) not in ("auto", "")]
        if odd and not isinstance(manifest, Manifest):
            raise ConfigError(
                f"{manifest.source.model_id} is {KINDS[manifest.kind]}, which has no {odd[0]}; remove it",
                param="models",
            )


def load_model(bundle: Path, model: ModelSettings, engine: EngineSettings, memory: Memory | None = None) -> AnyModel:
    """Verify a bundle and open it. The model holds the verified files open.

    memory: the model's share of the memory, for its keys and values; None for all that is free now.
    Raises BundleError if the bundle does not match its manifest, or changes while it is opened, ConfigError if the
    engine settings do not fit it, or its draft model has another vocabulary, BundleNotFoundError if there is none.
    """
    draft = open_draft(model)
    if draft is None:
        return load_verified(bundle, lambda manifest: _load(bundle, manifest, model, engine, memory=memory))
    with draft.files.in_use():
        loaded = load_verified(
            bundle, lambda manifest: _load(bundle, manifest, model, engine, memory=memory, draft=draft)
        )
    if loaded.files is not None:
        loaded.files.join(draft.files)
    return loaded


def load_verified(bundle: Path, load: Callable[[AnyManifest], AnyModel]) -> AnyModel:
    """Verify a bundle and load it with `load`. The model holds the verified files open.

    The weights' hash is computed while the model loads. Nothing answers before it is known.
    Raises BundleError if the bundle does not match its manifest, or changes while it is loaded.
    """
    files = open_files(bundle)
    if (path := files.unprotected()) is not None:
        logger.warning(
            "the files of %s can change while they are in use, because %s cannot have a lease (F_SETLEASE); let their "
            "owner run this server, or mount them read-only",
            files.manifest.source.model_id,
            path,
        )
    with files.in_use():
        loaded = load(files.manifest)
        return_free_memory()  # what parsing has freed: 100 MB at 262,144 tokens
    return replace(loaded, files=files)


def _load(
    bundle: Path,
    manifest: AnyManifest,
    model: ModelSettings,
    engine: EngineSettings,
    *,
    memory: Memory | None,
    draft: DraftBundle | None = None,
) -> AnyModel:
    begin_step("to read tokenizer.json")
    tokenizer = Tokenizer.load(bundle)
    check_tokens(manifest, tokenizer)
    tokenizer.prepare()
    if isinstance(manifest, EmbeddingManifest):
        begin_step(_OPEN_GRAPH)
        return load_embedding_model(bundle, manifest, tokenizer, engine.threads, engine.kernel_options)
    if isinstance(manifest, ClassifierManifest):
        begin_step(_OPEN_GRAPH)
        return load_classifier(bundle, manifest, tokenizer, engine.threads, engine.kernel_options)
    return _load_chat_model(bundle, manifest, model, engine, tokenizer, memory=memory, draft=draft)


def check_tokens(manifest: AnyManifest, tokenizer: Tokenizer) -> None:
    """Raise BundleError for a token without a row in the model's embedding, which no run could look up."""
    ids: list[tuple[str, int | None]] = [("tokenizer.json", tokenizer.largest_id)]
    if isinstance(manifest, Manifest):
        special = manifest.special_tokens
        ids += [("special_tokens", number) for number in (special.bos, special.pad, *special.eos)]
    for place, number in ids:
        if number is not None and not 0 <= number < manifest.vocab_size:
            raise BundleError(
                f"{place} has token {number}, but vocab_size is {manifest.vocab_size}; export the model again"
            )


def _load_chat_model(
    bundle: Path,
    manifest: Manifest,
    model: ModelSettings,
    settings: EngineSettings,
    tokenizer: Tokenizer,
    *,
    memory: Memory | None,
    draft: DraftBundle | None,
) -> LoadedModel:
    if draft is not None:
        check_vocabulary(manifest, tokenizer, draft)
    begin_step("to try the chat template")
    chat_format = load_chat_format(bundle, model.chat_format)
    tool_format = choose_format(chat_format.with_tools, model.tool_format)
    reasoning = find_tags(chat_format)
    turn_end = find_turn_end(chat_format, tokenizer, "" if reasoning is None else reasoning.close)
    manifest = with_turn_end(manifest, turn_end)
    shown = shown_ids(tokenizer, tool_format, reasoning)
    begin_step(_OPEN_GRAPH)
    opened = None if draft is None else (draft.path, draft.manifest)
    loaded = load_engine(bundle, manifest, settings, tokenizer, shown, memory=memory, draft=opened)
    begin_step("to read the vocabulary")
    sampling = default_sampling(manifest, model)
    return LoadedModel(
        model_id=manifest.source.model_id,
        manifest=manifest,
        bundle=bundle,
        engine=EngineService(loaded, settings.max_queue, settings.cache_idle_timeout),
        tokenizer=tokenizer,
        chat_format=chat_format,
        token_bytes=TokenBytes(tokenizer),
        fingerprint=fingerprint(
            manifest, {name: version(name) for name in _RUNTIME} | {"kernels": loaded.runner.kernels}, sampling
        ),
        created=int(time.time()),
        grammars=GrammarCompiler(tokenizer, manifest.vocab_size, manifest.special_tokens.eos),
        tool_format=tool_format,
        reasoning=reasoning,
        sampling=sampling,
        draft=None if draft is None else draft.manifest,
    )


def with_turn_end(manifest: Manifest, token_id: int | None) -> Manifest:
    """Add the token that ends a turn of the chat template to those that end an answer."""
    special = manifest.special_tokens
    if token_id is None or token_id in special.eos:
        return manifest
    return manifest.model_copy(update={"special_tokens": special.model_copy(update={"eos": (*special.eos, token_id)})})


def default_sampling(manifest: Manifest, model: ModelSettings) -> SamplingParams:
    """Return the sampling parameters of a request that sets none: the model's own, else OpenAI's defaults."""
    own = manifest.sampling if model.generation_config == "auto" else Sampling()
    return SamplingParams(**own.model_dump(exclude_none=True))


def shown_ids(tokenizer: Tokenizer, tool_format: ToolFormat, reasoning: Tags | None) -> frozenset[int]:
    """Return the control tokens that mark tool calls and reasoning in the text of an answer."""
    tags = () if reasoning is None else (reasoning.open, reasoning.close)
    texts = (*tool_format.syntax.markers, *tags)
    tokens = {token for text in texts for token in (text, *_TOKEN.findall(text))}
    ids = (tokenizer.token_id(token) for token in tokens)
    return frozenset(token_id for token_id in ids if token_id is not None and token_id in tokenizer.special_ids)


def fingerprint(manifest: AnyManifest, versions: Mapping[str, str], sampling: SamplingParams) -> str:
    """Return OpenAI's `system_fingerprint`: a hash of the bundle's files, recipe, runtime and default sampling."""
    parts = [
        *(f"{name} {entry.sha256}" for name, entry in sorted(manifest.files.items())),
        manifest.recipe.hash,
        *(f"{name} {number}" for name, number in sorted(versions.items())),
        *([] if sampling == SamplingParams() else [repr(sampling)]),
    ]
    return "fp_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
