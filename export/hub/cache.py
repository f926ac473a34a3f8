"""Check files in Hugging Face's cache against the hashes of the Hub."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from infrs.bundle.manifest import sha256_file

_SHA1, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


def damage(file: Path) -> str:
    """Return what is wrong with a file of a snapshot; empty if nothing is.

    The file links to a blob with the Hub's tag as its name: the SHA-256 of weights, or the git hash of any other file
    (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects). A tag of another form cannot be checked. The blob can
    itself be a link, to a file that several models share and that has another name.
    """
    blob = _blob(file)
    if not blob.is_file():
        return "is missing"
    if _SHA256.fullmatch(blob.name):
        return "" if sha256_file(blob) == blob.name else "does not match its SHA-256"
    if _SHA1.fullmatch(blob.name):
        return "" if _git_hash(blob) == blob.name else "does not match its SHA-1"
    return ""


def remove(file: Path) -> None:
    """Delete a file of a snapshot and its blob, so that both are fetched again."""
    _blob(file).unlink(missing_ok=True)
    file.unlink(missing_ok=True)


def _blob(file: Path) -> Path:
    return file.parent / file.readlink() if file.is_symlink() else file


def _git_hash(file: Path) -> str:
    with file.open("rb") as content:
        digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        while piece := content.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
