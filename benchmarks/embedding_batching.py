"""Why each text is embedded by itself: what running texts of one length together would gain, and whether bits change.

    python benchmarks/embedding_batching.py BUNDLE [--threads 0] [--seconds 0.5]

For texts of so many random tokens, one, 2, 8 or 32 of them a run: milliseconds a text (least of three rounds), and
whether every vector has the bits that it has alone. Close other programs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infrs.bundle.graph_signature import EMBEDDING, INPUT_IDS
from infrs.bundle.manifest import read_manifest
from infrs.engine.runners.session import create_session

LENGTHS = (3, 8, 16, 32, 64, 128, 256)
BATCHES = (1, 2, 8, 32)
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.5, help="Time of one round of one case.")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.bundle)
    session = create_session(arguments.bundle / manifest.graph_file, arguments.threads)

    def embed(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = session.run([EMBEDDING], {INPUT_IDS: ids})[0]
        return vectors

    print(f"{manifest.source.model_id}, {manifest.dtype}; milliseconds a text (= same bits as alone, x others)\n")
    print("| tokens | " + " | ".join(f"{batch} a run" for batch in BATCHES) + " |")
    print("| --: |" + " --: |" * len(BATCHES))
    for length in (length for length in LENGTHS if length <= manifest.context_length):
        ids = np.random.default_rng(length).integers(0, manifest.vocab_size, (max(BATCHES), length))
        alone = np.concatenate([embed(row[None]) for row in ids])
        cells = []
        for batch in BATCHES:
            together = np.concatenate([embed(ids[i : i + batch]) for i in range(0, len(ids), batch)])
            same = "=" if np.array_equal(together, alone) else "x"
            least = min(milliseconds(lambda: embed(ids[:batch]), arguments.seconds) for _ in range(ROUNDS))  # noqa: B023
            cells.append(f"{least / batch:.2f} {same}")
        print(f"| {length} | " + " | ".join(cells) + " |", flush=True)


def milliseconds(run: Callable[[], object], seconds: float) -> float:
    """Mean time of a run within `seconds`."""
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        run()
        count += 1
    return 1000 * (time.perf_counter() - begun) / count


if __name__ == "__main__":
    main()
