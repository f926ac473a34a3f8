"""The demo model as infrs bundles and as GGUF files, made on first use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import cast

from infrs_export.sources.demo import MODEL_ID, find_gguf

from benchmarks.lib.requantize import requantize
from benchmarks.lib.results import ROOT
from infrs.bundle.manifest import Dtype, find_bundle
from infrs.errors import BundleNotFoundError

MODELS_CACHE = ROOT / "models_cache"
SCRIPTS = Path(sys.executable).parent
PAIRS = "int4:Q4_0,int8:Q8_0,bfloat16:BF16"


def parse_pairs(text: str) -> list[tuple[Dtype, str]]:
    """Parse `int4:Q4_0,int8:Q8_0` into pairs of an infrs dtype and a llama.cpp type."""
    return [(cast(Dtype, dtype), kind) for dtype, _, kind in (pair.partition(":") for pair in text.split(","))]


def cache() -> Path:
    """Return the folder for requantised files and installed peers, and create it if needed."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infrs" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def demo_gguf() -> Path:
    """Return the demo's GGUF file; download it if needed."""
    path: Path = find_gguf(lambda: print("Fetching the demo model", file=sys.stderr))
    return path


def gguf(kind: str) -> Path:
    """Return the demo's weights in a llama.cpp type (`Q4_0`, `Q8_0`); requantise them on first use."""
    source = demo_gguf()
    target = cache() / f"{source.name.split('.')[0]}.{kind}.gguf"
    if not target.is_file():
        print(f"Making {target.name}", file=sys.stderr)
        requantize(source, target, kind)
    return target


def bundle(models_cache: Path, dtype: Dtype) -> Path:
    """Return the demo's bundle in a dtype; export it if needed."""
    return _exported(models_cache, MODEL_ID, "--demo", dtype)


def larger_gguf(kind: str) -> Path:
    """Return a billion random weights in the shape of Llama 3.2 1B, in a llama.cpp type; make them on first use."""
    folder = cache() / "random-1b"
    target = folder / f"llama.{kind}.gguf"
    if not target.is_file():
        types = ",".join(type_ for _, type_ in parse_pairs(PAIRS) if type_ != "Q8_0")
        command = [sys.executable, "-m", "benchmarks.peers.random_model", str(folder), "--types", types]
        subprocess.run(command, cwd=ROOT, check=True, timeout=3600, stdout=sys.stderr)
    return target


def larger_bundle(dtype: Dtype) -> Path:
    """Return the bundle of the same weights in a dtype; export it if needed."""
    source = larger_gguf("Q8_0")
    return _exported(cache() / "bundles", source.stem, str(source), dtype)


def _exported(models_cache: Path, model_id: str, source: str, dtype: Dtype) -> Path:
    """Return a bundle in a cache of bundles; export it if needed. source: what `infrs-export` takes."""
    try:
        return find_bundle(models_cache, model_id, "main", dtype)
    except BundleNotFoundError:
        command = [str(SCRIPTS / "infrs-export"), source, "--dtype", dtype, "--output", str(models_cache)]
        subprocess.run(command, check=True, timeout=3600)
        return find_bundle(models_cache, model_id, "main", dtype)
