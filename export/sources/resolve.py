"""Find a model: a Hub id, a local Hugging Face folder, a `.gguf` file or the demo. No code of a model runs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infrs.bundle.local_models import local_path
from infrs.bundle.manifest import Source, sha256_file
from infrs.errors import SourceError
from infrs.extras import install_command

from ..hub import fetch as hub
from . import demo
from .checkpoint import check_files, weight_files
from .config_check import check_config, read_json
from .embeddings.module_files import has_modules, layout_files
from .side_files import side_files

_MODEL_ID = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95})?$")
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Model:
    """A model on disk. directory: a Hugging Face folder, or the folder of `gguf`.

    content: hex SHA-256 over all files that the bundle depends on.
    repository: the Hub id of the download.
    """

    source: Source
    directory: Path
    gguf: Path | None
    content: str
    repository: str | None = None


def resolve(
    model: str,
    *,
    revision: str,
    model_id: str | None,
    max_bytes: int = hub.MAX_MODEL_BYTES,
    note: Callable[[str], None],
    stage: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Model:
    """Find, download and check the model `model`, without torch.

    max_bytes: the maximum size of a Hub model's files. note: called with a message for each download and wait.
    stage: called with the progress, see `hub.fetch`.
    Raises SourceError.
    """
    path = local_path(model)
    if path is not None and path.is_dir():
        return _folder(path, revision, model_id or readable_id(path.resolve().name))
    if path is not None and path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise SourceError(f"{path} does not exist; give the path of a .gguf file")
        return _gguf(path, revision, model_id or readable_id(path.stem))
    if model == demo.MODEL_ID:
        return _gguf(demo.find_gguf(lambda: note(f"fetching {model}")), revision, model_id or model)
    if not _MODEL_ID.match(model) or ".." in model:
        raise SourceError(f"{model!r} is neither a folder, a .gguf file nor a Hub id like org/name{_meant(model)}")
    fetched = hub.fetch(model, revision, max_bytes=max_bytes, note=note, stage=stage)
    check_folder(fetched.directory)
    source = Source(
        kind="hub",
        model_id=_checked_id(model_id or model),
        revision=revision,
        commit=fetched.commit,
        host=fetched.host,
    )
    content = hashlib.sha256(f"{model}@{fetched.commit}".encode()).hexdigest()
    return Model(source, fetched.directory, None, content, repository=model)


def check_source(model: Model) -> None:
    """Check the hashes of weights from the Hub. This is too slow for a mere look-up of a bundle.

    Raises SourceError, DiskFullError.
    """
    if model.repository is not None and model.source.commit is not None:
        weights = sorted(model.directory.rglob("*.safetensors"))
        hub.check_files(model.repository, model.source.commit, model.directory, weights)


def check_folder(directory: Path) -> None:
    """Refuse models with code, pickles, quantised checkpoints, oversized files or shards outside their folder.

    Raises SourceError.
    """
    if (directory / _ADAPTER).is_file():
        base = read_json(directory / _ADAPTER).get("base_model_name_or_path")
        raise SourceError(
            f"{directory.name} holds a PEFT adapter (LoRA) of {base!r:.100}; merge it into its base model "
            f"(merge_and_unload, then save_pretrained) and export the result, or remove {_ADAPTER} if it is merged"
        )
    if not (directory / "config.json").exists():
        raise SourceError(_without_config(directory))
    check_config(read_json(directory / "config.json"))
    side_files(directory)
    check_files(directory)


def _without_config(directory: Path) -> str:
    """Return the sentence that refuses a folder without config.json, by what it holds instead."""
    names = sorted(path.name for path in directory.iterdir())
    if any(name.startswith("adapter_model.") for name in names):
        return f"{directory.name} holds a PEFT adapter alone; merge it into its base model and export the result"
    if found := next((name for name in names if name.lower().endswith(".gguf")), None):
        return f"{directory.name} holds {found!a:.100}; name that file instead of its folder"
    return f"{directory} has no config.json; is this a Hugging Face model folder?"


def readable_id(stem: str) -> str:
    """Return a model id for a file or folder name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.") or "model"


def _meant(model: str) -> str:
    """Return the correction of a name that other tools take: a page of the Hub, or an id with a tag."""
    if page := re.match(r"https?://[^/]+/([\w.-]+/[\w.-]+)", model):
        return f"; did you mean {page[1]}?"
    return "; an id has no tag, and --dtype chooses the storage of the weights" if ":" in model else ""


def _checked_id(model_id: str) -> str:
    if not _MODEL_ID.match(model_id) or ".." in model_id:
        raise SourceError(f"{model_id!r} cannot be a model id; use letters, digits, '-', '_', '.' and at most one '/'")
    return model_id


def _gguf(path: Path, revision: str, model_id: str) -> Model:
    if importlib.util.find_spec("gguf") is None:
        raise SourceError(f"reading a .gguf file needs the package gguf; run: {install_command('export,demo')}")
    digest = sha256_file(path)
    source = Source(kind="gguf", model_id=_checked_id(model_id), revision=revision, sha256=digest)
    return Model(source, path.parent, path, content=digest)


def _folder(directory: Path, revision: str, model_id: str) -> Model:
    check_folder(directory)
    weights = weight_files(directory)
    others = side_files(directory)
    of_modules = layout_files(directory) if has_modules(directory) else []
    digests = {path.relative_to(directory).as_posix(): sha256_file(path) for path in [*weights, *others, *of_modules]}
    of_weights = hashlib.sha256(json.dumps([digests[path.name] for path in weights]).encode()).hexdigest()
    source = Source(kind="local", model_id=_checked_id(model_id), revision=revision, sha256=of_weights)
    content = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    return Model(source, directory, None, content)
