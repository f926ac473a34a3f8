"""What each dtype costs and saves on this machine: the table of docs/dtypes.md and of the README.

    python -m benchmarks.quality.dtype_table [--cache models_cache] [--threads 0] [--write]

Exports the demo model in every dtype where that has not been done, then, each dtype in a process of its own: bytes on
disk, memory of an open session, tokens a second (decoding of one row and of eight with 128 tokens of context, reading a
prompt of 512), and divergence from float32 as divergence.py measures it. It runs the engine's runner with the kernels
that the server takes, but no server. Close other programs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from benchmarks.lib.models import MODELS_CACHE
from benchmarks.lib.results import ROOT
from benchmarks.quality.divergence import PIECE, divergence, reference_logits, sample_tokens, score
from infrs.bundle.manifest import Dtype, chat_manifest, find_bundle, read_manifest
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Rows, Runner, Segment

PAGES = (ROOT / "docs" / "dtypes.md", ROOT / "README.md")
MODEL = "demo/SmolLM2-135M-Instruct"
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
CONTEXT, NUM_ROWS, STEPS = 128, 8, 60

COLUMNS = {
    "disk_mb": ("disk, MB", "{:.0f}"),
    "memory_mb": ("memory, MB", "{:.0f}"),
    "decode_1": ("decode 1 row, tok/s", "{:.0f}"),
    "decode_8": ("decode 8 rows, tok/s", "{:.0f}"),
    "prefill": ("prefill, tok/s", "{:.0f}"),
    "kl": ("KL from float32, nats", "{:.4f}"),
    "top1": ("same top token", "{:.1%}"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=MODELS_CACHE)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="Put the table into docs/dtypes.md and README.md.")
    parser.add_argument("--measure", nargs=2, metavar=("DTYPE", "REFERENCE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        dtype, reference = arguments.measure
        print(json.dumps(measure(arguments.cache, dtype, Path(reference), arguments.threads)))
        return
    table = render(run_all(arguments.cache, arguments.threads))
    print(table)
    if arguments.write:
        for page in PAGES:
            write(page, table)


def run_all(cache: Path, threads: int) -> dict[str, dict[str, float]]:
    """Figures by dtype."""
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        np.save(Path(temporary) / "reference.npy", reference_logits(cache))
        for dtype in DTYPES:
            export = [sys.executable, "-c", "from infrs_export.entry import main; main()", "--demo", "--dtype", dtype]
            subprocess.run([*export, "--output", str(cache)], check=True, stdout=sys.stderr)
            command = [
                sys.executable,
                "-m",
                "benchmarks.quality.dtype_table",
                "--cache",
                str(cache),
                "--threads",
                str(threads),
            ]
            command += ["--measure", dtype, str(Path(temporary) / "reference.npy")]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures[dtype] = json.loads(done.stdout)
            print(dtype, figures[dtype], file=sys.stderr)
    return figures


def measure(cache: Path, dtype: Dtype, reference: Path, threads: int) -> dict[str, float]:
    """All figures of one dtype. reference: the file of float32's logits."""
    bundle = find_bundle(cache, MODEL, "main", dtype)
    manifest = chat_manifest(read_manifest(bundle))
    ids = sample_tokens(bundle)
    before = resident_bytes()
    runner = open_runner(bundle, manifest, Rows(NUM_ROWS, PIECE + STEPS), threads=threads)
    memory = resident_bytes() - before
    kl, top1 = divergence(np.load(reference, mmap_mode="r"), score(runner, ids))
    return {
        "disk_mb": sum(entry.size for entry in manifest.files.values()) / 1e6,
        "memory_mb": memory / 1e6,
        "decode_1": decode_speed(runner, ids, 1),
        "decode_8": decode_speed(runner, ids, NUM_ROWS),
        "prefill": PIECE / quick_seconds(lambda: runner.run([Segment(0, 0, ids[:PIECE], (PIECE - 1,))]), 10),
        "kl": kl,
        "top1": top1,
    }


def decode_speed(runner: Runner, ids: npt.NDArray[np.int64], num_active: int) -> float:
    """Tokens a second of `num_active` rows with CONTEXT tokens each; a lone row is filled up as the engine does it."""
    rows = max(num_active, runner.capabilities.min_rows)
    for row in range(rows):
        runner.run([Segment(row, 0, ids[:CONTEXT])])
    position = CONTEXT

    def step() -> None:
        nonlocal position
        token = (int(ids[position]),)
        runner.run([Segment(row, position, *((token, (0,)) if row < num_active else ((),))) for row in range(rows)])
        position += 1

    return num_active / quick_seconds(step, STEPS)


def quick_seconds(call: Callable[[], object], count: int) -> float:
    """The tenth percentile: what a call takes when nothing else disturbs it."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return float(np.quantile(seconds, 0.1))


def resident_bytes() -> int:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024


def render(figures: dict[str, dict[str, float]]) -> str:
    rows = [["dtype", *(title for title, _ in COLUMNS.values())], ["---", *("--:" for _ in COLUMNS)]]
    for dtype, values in figures.items():
        rows.append([dtype, *(form.format(values[key]) for key, (_, form) in COLUMNS.items())])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write(page: Path, table: str) -> None:
    """Replace what stands between the page's `dtypes` marks."""
    text = page.read_text()
    new = re.sub(r"(<!-- dtypes -->\n).*?(<!-- /dtypes -->)", lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.S)
    page.write_text(new)


if __name__ == "__main__":
    main()
