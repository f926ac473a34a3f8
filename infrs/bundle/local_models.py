"""Models on disk: which names are paths, and which cached bundle was exported from a path.

An export from a path writes a record to `<cache>/.sources/`: the bundle it made, and the names, sizes and modification
times of the files it read. While these are unchanged, the server uses that bundle. Hashing the files instead would take
about a second per gigabyte at every start. If they have changed, the exporter hashes them and exports only new content.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infrs.bundle.manifest import AnyManifest, DtypeChoice, find_bundle, preferred, read_manifest
from infrs.errors import BundleError, BundleNotFoundError, SourceError

RECORDS = ".sources"
_READ = {".safetensors", ".json", ".jinja", ".model", ".txt"}  # suffixes of the files that an export may read


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fingerprint: str
    bundle: str = Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")  # below the cache


@dataclass(frozen=True)
class LocalModel:
    """A model folder or `.gguf` file, and the SHA-256 of its files' names, sizes and modification times."""

    path: Path
    fingerprint: str


def local_path(name: str) -> Path | None:
    """Return the absolute path that a model's name means, or None for a Hub id.

    A name is a path if it starts with `.`, `/` or `~`, ends with `.gguf`, or exists as a file or folder.
    """
    expanded = os.path.expanduser(name)  # Path.expanduser raises for an unknown user
    if name.startswith((".", "/", "~")) or name.lower().endswith(".gguf") or os.path.exists(expanded):
        return Path(os.path.abspath(expanded))  # without following links: they may change
    return None


def read_local(path: Path) -> LocalModel:
    """Return a model's path and fingerprint, without reading its files.

    Raises SourceError if there is no model folder or `.gguf` file at `path`.
    """
    try:
        if path.suffix.lower() == ".gguf" and path.is_file():
            files = [path]
        elif path.is_dir():
            inside = sorted(file for depth in ("*", "*/*") for file in path.glob(depth))
            files = [file for file in inside if file.suffix in _READ and file.is_file()]
        else:
            raise SourceError(f"{path} is neither a model folder nor a .gguf file; check the path")
        facts = [f"{file.relative_to(path)} {_size_and_time(file)}" for file in files]
    except OSError as error:
        raise SourceError(
            f"{error.filename or path} cannot be read ({error.strerror}); check its permissions"
        ) from None
    return LocalModel(path, hashlib.sha256(os.fsencode("\n".join(facts))).hexdigest())


def remember(cache: Path, model: LocalModel, bundle: Path) -> None:
    """Record that `bundle`, in `cache`, was exported from `model`."""
    record = _Record(fingerprint=model.fingerprint, bundle=bundle.relative_to(cache).as_posix())
    dtype = bundle.name.partition("-")[0]
    path = cache / RECORDS / f"{_stem(model.path)}-{dtype}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(record.model_dump_json(indent=2) + "\n")
    new.replace(path)


def find_exported(cache: Path, model: LocalModel, dtype: DtypeChoice) -> Path | None:
    """Return the bundle that was exported from these files, or None; for `auto`, the first dtype of AUTO_DTYPES."""
    found: list[tuple[AnyManifest, Path]] = []
    for path in (cache / RECORDS).glob(f"{_stem(model.path)}-{'*' if dtype == 'auto' else dtype}.json"):
        try:
            record = _Record.model_validate_json(path.read_bytes())
            manifest = read_manifest(cache / record.bundle)
        except (OSError, ValidationError, BundleError):
            continue
        if record.fingerprint == model.fingerprint:
            found.append((manifest, cache / record.bundle))
    return preferred(found) if found else None


def find_cached(cache: Path, name: str, revision: str, dtype: DtypeChoice) -> Path:
    """Return the cached bundle of a Hub model or of a path. Raises BundleNotFoundError, SourceError."""
    path = local_path(name)
    if path is None:
        return find_bundle(cache, name, revision, dtype)
    bundle = find_exported(cache, read_local(path), dtype)
    if bundle is None:
        kind = "bundle" if dtype == "auto" else f"{dtype} bundle"
        raise BundleNotFoundError(f"no up-to-date {kind} of {path} in {cache}")
    return bundle


def _size_and_time(file: Path) -> str:
    facts = file.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _stem(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
