"""Open and run crafted nodes with infrs's kernels, and print the outcome of each as one line of JSON.

A script, so that a crash ends its process and not that of the tests.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from crafted import CASES, Case
from kernel_graphs import opened
from random_nodes import SPECIAL, random_case

from infrs import native
from infrs.engine.runners.session import Session, kernels_of
from infrs.errors import BundleError
from infrs.native import draws, sampling_weights

LIBRARY = os.environ.get("CRAFTED_LIBRARY")  # the path of a library with the compiler's checks


def run(session: Session, case: Case) -> None:
    """Run a case twice. in_place: its present keys and values are in the memory of the past ones, as in the engine."""
    kept = [name for name in ("past_key", "past_value", "past") if case.in_place and name in case.feeds]
    arrays = {name: np.ascontiguousarray(array) for name, array in case.feeds.items()}
    outputs = [value.name for value in session.get_outputs()]
    for _ in range(2):
        binding = session.io_binding()
        for name, array in arrays.items():
            binding.bind_cpu_input(name, array)
        for name in outputs:
            past = name.replace("present", "past")
            if past in kept and arrays[past].size:
                array = arrays[past]
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            else:
                binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding)


def outcome(case: Case) -> str:
    """Return which kernels ran a case, "own" or "onnxruntime", or why it was refused or failed."""
    try:
        session = opened(case.model(), 2, case.kernels, kv_dtype=case.kv_dtype)
    except BundleError as error:
        return f"refused: {error}"
    if not kernels_of(session):  # how ONNX Runtime's kernels handle the node is not tested here
        return "onnxruntime"
    try:
        run(session, case)
    except Exception as error:
        return f"failed: {error}"
    return "own"


def sample(seed: int) -> str:
    """Call the functions for sampling with a random row: any weights, then the logits of a model with a grammar."""
    chance = random.Random(seed)
    length = chance.choice([1, 3, 4, 255, 256, 257, chance.randrange(1, 2000)])
    row = np.array(chance.choices([*SPECIAL, 1.0, -1.0, 0.5], k=length), np.float32)
    sums, _ = sampling_weights.weigh_logarithms(row)
    assert len(sums) == -(-length // sampling_weights.BLOCK)
    logits = np.random.default_rng(seed).standard_normal(length).astype(np.float32) * chance.choice([0, 1, 3, 30, 1e30])
    logits[1:] = np.where(np.arange(1, length) % chance.choice([2, 3, length]), logits[1:], chance.choice([0, -np.inf]))
    temperature = chance.choice([1e-6, 1, 1, 100])
    masses = np.exp((logits - logits.max()) / np.float32(temperature))
    portions = [1e-300, 0.1, 0.9, chance.random(), 1 - 2**-53, 1.0, 1.0]
    filters = (
        chance.choice([0, 1, 50, 2**62]),
        chance.choice(portions),
        chance.choice(portions),
        chance.choice(portions),
    )
    uniform = chance.choice([0.0, 0.5, chance.random(), 1 - 2**-53])
    token_id = draws.draw(logits, masses, filters, temperature, uniform)
    assert token_id is None or 0 <= token_id < length
    return "own"


def probe(count: int, shift: int) -> str:
    """Sum `count` weights of a tensor with eight, into numbers that are `shift` bytes away from where they belong."""
    function = ctypes.CDLL(str(native.library())).infrs_weigh_logarithms
    tensor = ort.OrtValue.ortvalue_from_shape_and_type([8], np.float32, "cpu")
    sums = np.zeros(2)
    address, weighted = ctypes.c_void_p(tensor.data_ptr()), ctypes.c_double()
    function(address, ctypes.c_size_t(count), ctypes.c_void_p(sums.ctypes.data + shift), ctypes.byref(weighted))
    return "own"


PROBES: dict[str, Callable[[], str]] = {
    "no fault": lambda: probe(8, 0),
    "read past a tensor": lambda: probe(9, 0),
    "misaligned write": lambda: probe(8, 1),
}


def separate_allocations() -> None:
    """Let ONNX Runtime allocate each tensor alone: a sanitizer does not see the bounds of tensors in a larger block."""
    options = ort.SessionOptions

    def create() -> ort.SessionOptions:
        created = options()
        created.enable_cpu_mem_arena = created.enable_mem_pattern = created.enable_mem_reuse = False
        return created

    ort.SessionOptions = create


def run_named(name: str) -> str:
    """Return the outcome of a case by its name; a number is the seed of a random one."""
    if name in PROBES:
        return PROBES[name]()
    if not name.isdigit():
        return outcome(CASES[name])
    seed = int(name)
    return sample(seed) if seed % 20 == 0 else outcome(random_case(seed))


def main() -> None:
    """Print the name of each case before it runs, and its outcome after it."""
    if LIBRARY:
        native.library = lambda: Path(LIBRARY)
        separate_allocations()
    for name in sys.argv[1:]:
        print(json.dumps([name]), flush=True)
        print(json.dumps([name, run_named(name)]), flush=True)


if __name__ == "__main__":
    main()
