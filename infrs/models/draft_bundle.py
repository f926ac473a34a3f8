"""The bundle of a draft model: where it is, and whether it has the same tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from infrs.bundle.files import BundleFiles, open_files
from infrs.bundle.local_models import find_cached
from infrs.bundle.manifest import MANIFEST_FILE, Dtype, Manifest, chat_manifest
from infrs.config.settings import EngineSettings, ModelSettings
from infrs.errors import ConfigError
from infrs.text.tokenizer import TOKENIZER_FILE, Tokenizer

_DTYPES = get_args(Dtype)


@dataclass(frozen=True)
class DraftBundle:
    """The verified bundle of a draft model. Its files are open."""

    path: Path
    manifest: Manifest
    files: BundleFiles


def draft_source(model: ModelSettings) -> ModelSettings | Path | None:
    """Return what `model.draft` names: a model, of which a bundle is or will be cached, or a bundle; None for none."""
    draft = model.draft
    if not draft or (Path(draft) / MANIFEST_FILE).is_file():
        return Path(draft) if draft else None
    other = ModelSettings(cache_dir=model.cache_dir)
    if draft in _DTYPES:
        return other.model_copy(update={"model_id": model.model_id, "revision": model.revision, "dtype": draft})
    name, _, dtype = draft.rpartition(":")
    if name and dtype in _DTYPES:
        return other.model_copy(update={"model_id": name, "dtype": dtype})
    return other.model_copy(update={"model_id": draft})


def check_drafts(models: Iterable[ModelSettings], engine: EngineSettings) -> None:
    """Raise ConfigError for a draft model that the engine would not use. Call it before a draft model is exported."""
    if not engine.speculation and any(model.draft for model in models):
        raise ConfigError(
            "model.draft needs engine.speculation; set that to true, or remove the draft", param="model.draft"
        )


def find_draft(model: ModelSettings) -> Path | None:
    """Return the bundle of a model's draft model, or None. Raises BundleNotFoundError, SourceError."""
    source = draft_source(model)
    if isinstance(source, ModelSettings):
        return find_cached(source.cache_dir, source.model_id, source.revision, source.dtype)
    return source


def open_draft(model: ModelSettings) -> DraftBundle | None:
    """Open and verify the bundle of a model's draft model, or return None.

    Raises BundleNotFoundError if it is not cached, BundleError if it does not match its manifest or is no chat model's.
    """
    path = find_draft(model)
    if path is None:
        return None
    files = open_files(path)
    try:
        return DraftBundle(path, chat_manifest(files.manifest), files)
    except BaseException:
        files.close()
        raise


def check_vocabulary(manifest: Manifest, tokenizer: Tokenizer, draft: DraftBundle) -> None:
    """Raise ConfigError unless every token of a model has the same id in its draft model, and no other has one."""
    name, other = manifest.source.model_id, draft.manifest.source.model_id
    if manifest.vocab_size != draft.manifest.vocab_size:
        raise _other_tokens(f"{other} scores {draft.manifest.vocab_size} tokens, but {name} {manifest.vocab_size}")
    if draft.manifest.files.get(TOKENIZER_FILE) == manifest.files.get(TOKENIZER_FILE):
        return
    drafted = Tokenizer.load(draft.path)
    for token_id in range(manifest.vocab_size):
        own, others = tokenizer.token(token_id), drafted.token(token_id)
        if own != others:
            raise _other_tokens(f"token {token_id} is {others!a} in {other}, but {own!a} in {name}")


def _other_tokens(difference: str) -> ConfigError:
    return ConfigError(
        f"model.draft: {difference}; name a draft model with the same vocabulary, such as the model itself in int4",
        param="model.draft",
    )
