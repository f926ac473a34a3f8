"""What it takes to draw a token from one row: milliseconds of the thread, by vocabulary, filter and kind of row.

python -m benchmarks.engine.sampling; to compare with another version, set PYTHONPATH to its checkout.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from infrs.core import SamplingParams
from infrs.engine.sampling.sampler import new_generator, sample

ROUNDS = 15
SETTINGS = {
    "none": SamplingParams(),
    "top_k 50, top_p .95": SamplingParams(top_k=50, top_p=0.95),
    "top_p .95": SamplingParams(top_p=0.95),
    "min_p .05": SamplingParams(min_p=0.05),
    "min_p .001, top_p .99": SamplingParams(min_p=1e-3, top_p=0.99),
    "typical_p .95": SamplingParams(typical_p=0.95),
    "all but top_k": SamplingParams(typical_p=0.95, top_p=0.95, min_p=1e-4),
    "top_k 5000, typical_p .5, top_p .5": SamplingParams(top_k=5_000, typical_p=0.5, top_p=0.5),
    "all": SamplingParams(temperature=0.7, top_k=200_000, typical_p=0.95, top_p=0.95, min_p=1e-4),
}


def rows(vocab: int) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(vocab)
    kinds = {
        "peaked": 3 * normal,
        "wide": rng.permutation(-1.2 * np.log(np.arange(1, vocab + 1))),
        "nearly flat": normal / 2,
        "ties": np.round(4 * normal) / 4,
        "two values": np.where(rng.random(vocab) < 0.3, 1.0, -1.0),
        "all but flat": 1e-3 * normal,
        "flat": np.zeros(vocab),
        "masked": np.where(rng.random(vocab) < 0.1, normal, -np.inf),
    }
    return {kind: row.astype(np.float32) for kind, row in kinds.items()}


def cost(row: npt.NDArray[np.float32], params: SamplingParams) -> float:
    """Milliseconds; the least of some rounds."""
    took = []
    for seed in range(ROUNDS):
        generator = new_generator(seed)
        start = time.thread_time()
        sample(row, params, generator)
        took.append(time.thread_time() - start)
    return min(took) * 1e3


def main() -> None:
    print("| vocabulary | row | " + " | ".join(SETTINGS) + " |")
    print("| --- | --- |" + " ---: |" * len(SETTINGS))
    for vocab in (49_152, 151_936, 262_144):
        for kind, row in rows(vocab).items():
            cells = " | ".join(f"{cost(row, params):.2f}" for params in SETTINGS.values())
            print(f"| {vocab:,} | {kind} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
