"""Download from the Hub: by commit, from an allow-list of files, with each file checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from infrs.errors import SourceError

from ..sources.checkpoint import weight_files
from ..sources.config_check import CONFIG_BYTES, check_config, read_json
from ..sources.embeddings.module_files import MODULES_FILE, TRANSFORMER_FILES
from ..sources.embeddings.prompts import PROMPTS_FILE
from . import cache as hub_cache

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

SMALL_FILES = [
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "model.safetensors.index.json",
    MODULES_FILE,
    PROMPTS_FILE,
    TRANSFORMER_FILES,
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Normalize/config.json",
]
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")  # a model has one of these
_SMALL_BYTES = 64 << 20
MAX_MODEL_BYTES = 64 << 30  # by default: 32 billion parameters in 16 bits
WEIGHTS = ["model.safetensors", "model-*.safetensors", "*_Dense/model.safetensors"]


@dataclass(frozen=True)
class Fetched:
    """The files of a model. commit: 40 hex digits. host: the Hub's host; None if the files were in the cache."""

    commit: str
    directory: Path
    host: str | None


def fetch(
    model: str,
    revision: str,
    *,
    max_bytes: int,
    note: Callable[[str], None],
    stage: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Fetched:
    """Fetch `revision` of a model into Hugging Face's own cache.

    max_bytes: the maximum size of all files. note: called before each step, and with reasons for delays. stage: called
    with the name `fetch`, the downloaded and the total megabytes. huggingface_hub's environment variables apply
    (HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME). Raises SourceError, DiskFullError.
    """
    from huggingface_hub import HfApi, constants, set_client_factory, snapshot_download  # noqa: PLC0415  # reads the environment

    from .download import Arrivals, download  # noqa: PLC0415
    from .errors import explained, not_in_cache  # noqa: PLC0415
    from .http_client import check_endpoint, client, without_extras  # noqa: PLC0415
    from .patience import Patience  # noqa: PLC0415

    with explained(model, revision), without_extras():
        if constants.HF_HUB_OFFLINE:
            directory = Path(snapshot_download(model, revision=revision, allow_patterns=[], local_files_only=True))
            if missing := _missing(directory):
                raise not_in_cache(model, revision, missing)
            check_files(model, directory.name, directory, _small_files(directory))
            return Fetched(directory.name, directory, None)
        host = check_endpoint(constants.ENDPOINT)
        shared = client(Patience(note))
        set_client_factory(lambda: shared)
        note(f"asking {host} for {model}")
        info = HfApi().model_info(model, revision=revision, files_metadata=True)
        listed = _listed(model, max_bytes, info)
        # The first request is by name, so that the cache knows the commit offline; later requests are by commit.
        (config,) = download(model, revision, ["config.json"], Arrivals())
        directory, commit = config.parent, config.parent.name
        if commit != info.sha:
            raise SourceError(f"{revision} of {model} changed just now; run the same command again")
        note(f"fetching {model}")
        absent = sum(size for name, size in listed.items() if not (directory / name).is_file())
        arrivals = Arrivals(absent, partial(stage, "fetch"))
        download(model, commit, [name for name in listed if not name.endswith(".safetensors")], arrivals)
        check_files(model, commit, directory, _small_files(directory))
        check_config(read_json(directory / "config.json"))
        download(model, commit, list(listed), arrivals)
        return Fetched(commit, directory, host)


def check_files(model: str, commit: str, directory: Path, files: list[Path]) -> None:
    """Check the hashes of fetched files; fetch a damaged file again, once.

    Raises SourceError, DiskFullError.
    """
    from huggingface_hub import constants  # noqa: PLC0415  # reads the environment

    from .download import Arrivals, download  # noqa: PLC0415
    from .errors import explained  # noqa: PLC0415
    from .http_client import without_extras  # noqa: PLC0415

    damaged = [path for path in files if hub_cache.damage(path)]
    for path in damaged:
        hub_cache.remove(path)
    if damaged and not constants.HF_HUB_OFFLINE:
        names = [path.relative_to(directory).as_posix() for path in damaged]
        with explained(model, commit), without_extras():
            download(model, commit, names, Arrivals())
    for path in damaged:
        if reason := hub_cache.damage(path):
            hub_cache.remove(path)
            raise SourceError(f"{path.name} of {model} {reason} as it was downloaded; run the same command again later")


def _listed(model: str, max_bytes: int, info: ModelInfo) -> dict[str, int]:
    """Return the files to fetch, each with its size in bytes.

    Raises SourceError for an invalid or too large model, before it fetches anything.
    """
    sizes = {item.rfilename: item.size or 0 for item in info.siblings or []}
    if not any(name.endswith(".safetensors") for name in sizes):
        raise SourceError(
            f"{model} ships no safetensors weights; infrs does not load pickles, choose another repository"
        )
    if "config.json" not in sizes:
        raise SourceError(f"{model} has no config.json; infrs needs a transformers model, choose another repository")
    small = [name for name in sizes if any(fnmatch(name, pattern) for pattern in SMALL_FILES)]
    for name in small:
        limit = CONFIG_BYTES if name == "config.json" else _SMALL_BYTES
        if sizes[name] > limit:
            raise SourceError(f"{name} of {model} is larger than {limit} bytes, which no model needs")
    weights = [name for name in sizes if any(fnmatch(name, pattern) for pattern in WEIGHTS)]
    listed = {name: sizes[name] for name in (*small, *weights)}
    if (total := sum(listed.values())) > max_bytes:
        raise SourceError(
            f"{model} has {total} bytes of files, more than the {max_bytes} that are fetched; "
            f"to fetch it anyway, run infrs-export with --max-model-bytes {total}"
        )
    return listed


def _small_files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix != ".safetensors"]


def _missing(directory: Path) -> str:
    """Return the first file that an export needs and the cache lacks; empty if there is none."""
    if not (directory / "config.json").is_file():
        return "config.json"
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        return _TOKENIZERS[0]
    weights = weight_files(directory) or [directory / "model.safetensors"]
    return next((path.name for path in weights if not path.is_file()), "")
