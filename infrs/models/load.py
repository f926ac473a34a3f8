"""From bundles on disk to models that answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from infrs.bundle.manifest import (
    AnyManifest,
    EmbeddingManifest,
    Manifest,
    Sampling,
    chat_manifest,
    read_manifest,
    verify_bundle,
)
from infrs.config.settings import EngineSettings, ModelSettings, Settings
from infrs.core import SamplingParams
from infrs.engine.build import load_engine
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.engine.service import EngineService
from infrs.errors import ConfigError
from infrs.machine.cpus import warn_above_limit
from infrs.models.embedding_model import EmbeddingModel, load_embedding_model
from infrs.models.loaded import LoadedModel, Served
from infrs.text import reasoning
from infrs.text.chat.template import load_chat_format
from infrs.text.token_bytes import TokenBytes
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.choose import choose_format
from infrs.text.tools.tool_format import ToolFormat

_RUNTIME = ("infrs", "onnxruntime", "tokenizers")


def load_served(chosen: Sequence[tuple[ModelSettings, Path]], settings: Settings) -> Served:
    """Verify the bundles of the models that are to be served, open them and start the engine.

    Raises BundleError if a bundle is not as its manifest says, ConfigError if the settings do not fit the models.
    """
    warn_above_limit(settings.engine.threads)
    manifests = [read_manifest(bundle) for _, bundle in chosen]
    check_kinds([model for model, _ in chosen], manifests)
    chat: LoadedModel | None = None
    embedding: dict[str, EmbeddingModel] = {}
    for (model, bundle), manifest in zip(chosen, manifests, strict=True):
        if isinstance(manifest, Manifest):
            chat = load_model(bundle, model, settings.engine)
        else:
            verify_bundle(bundle)
            embedding[manifest.source.model_id] = load_embedding_model(
                bundle, manifest, settings.engine.threads, settings.engine.kernels
            )
    return Served(chat and replace(chat, beside=frozenset(embedding)), embedding)


def check_kinds(models: Sequence[ModelSettings], manifests: Sequence[AnyManifest]) -> None:
    """Raise ConfigError for two chat models, and for settings of chats that an embedding model cannot have."""
    chats = [manifest.source.model_id for manifest in manifests if isinstance(manifest, Manifest)]
    if len(chats) > 1:
        raise ConfigError(
            f"{chats[0]} and {chats[1]} are both chat models, and a server has one; start another server for the other",
            param="models",
        )
    for model, manifest in zip(models, manifests, strict=True):
        names = ("chat_format", "tool_format", "generation_config")
        odd = [name for name in names if getattr(model, name) != "auto"]
        if odd and isinstance(manifest, EmbeddingManifest):
            raise ConfigError(
                f"{manifest.source.model_id} is an embedding model, which has no {odd[0]}; remove it", param="models"
            )


def load_model(bundle: Path, model: ModelSettings, engine_settings: EngineSettings) -> LoadedModel:
    """Verify the bundle of a chat model, open it and start its engine.

    Raises BundleError if the bundle is not as its manifest says, ConfigError if the engine's settings do not fit it.
    """
    manifest = chat_manifest(verify_bundle(bundle))
    tokenizer = Tokenizer.load(bundle)
    chat_format = load_chat_format(bundle, model.chat_format)
    tool_format = choose_format(chat_format.source, model.tool_format)
    shown = shown_ids(tokenizer, tool_format)
    loaded = load_engine(bundle, manifest, engine_settings, tokenizer, shown)
    sampling = default_sampling(manifest, model)
    engine = EngineService(loaded, engine_settings.max_queue)
    engine.start()
    return LoadedModel(
        model_id=manifest.source.model_id,
        manifest=manifest,
        bundle=bundle,
        engine=engine,
        tokenizer=tokenizer,
        chat_format=chat_format,
        token_bytes=TokenBytes(tokenizer),
        fingerprint=fingerprint(
            manifest, {name: version(name) for name in _RUNTIME} | {"kernels": loaded.runner.kernels}, sampling
        ),
        created=int(time.time()),
        grammars=GrammarCompiler(tokenizer.definition, manifest.vocab_size, manifest.special_tokens.eos),
        tool_format=tool_format,
        thinks=reasoning.thinks(chat_format.source),
        sampling=sampling,
    )


def default_sampling(manifest: Manifest, model: ModelSettings) -> SamplingParams:
    """How tokens are chosen where a request does not say; OpenAI's way is that of `SamplingParams`."""
    said = manifest.sampling if model.generation_config == "auto" else Sampling()
    return SamplingParams(**said.model_dump(exclude_none=True))


def shown_ids(tokenizer: Tokenizer, tool_format: ToolFormat) -> frozenset[int]:
    """Control tokens that mark tool calls and reasoning in the text of an answer."""
    markers = (*tool_format.parser(frozenset(), None).markers, *reasoning.TAGS)
    ids = (tokenizer.token_id(marker) for marker in markers)
    return frozenset(token_id for token_id in ids if token_id is not None and token_id in tokenizer.special_ids)


def fingerprint(manifest: AnyManifest, versions: Mapping[str, str], sampling: SamplingParams) -> str:
    """OpenAI's `system_fingerprint`: a hash of the bundle's files and recipe, of what runs it and of its defaults."""
    parts = [
        *(f"{name} {entry.sha256}" for name, entry in sorted(manifest.files.items())),
        manifest.recipe.hash,
        *(f"{name} {number}" for name, number in sorted(versions.items())),
        *([] if sampling == SamplingParams() else [repr(sampling)]),
    ]
    return "fp_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
