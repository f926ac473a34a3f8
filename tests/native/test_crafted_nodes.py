"""A crafted graph is refused, or its run fails: the kernels never access memory outside the tensors.

All cases run in a process of their own (run_nodes.py): a crash fails its case, not the run of the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from crafted import CASES

from infrs import native

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]

RUN = {
    "window 9223372036854775807": "own",
    "tables of no width": "own",
    "no rows": "own",
    "no tokens": "own",
    "no rows of a product": "own",
    "no width": "own",
    "no rows of a convolution": "own",
    "no tokens of a convolution": "own",
    "active nan": "own",
    "smooth_softmax -1": "own",
    "causal 1": "own",
    "no rows of experts": "own",
    "k 0": "own",
    "gate_up_bias as an input": "own",
    "down_bias as an input": "own",
    "k_quant_type NONE": "own",
    # The kernels do not implement these nodes, so ONNX Runtime's run them.
    "no present keys": "onnxruntime",
    "no present values": "onnxruntime",
    "smooth_softmax 1": "onnxruntime",
    "qk_output 1": "onnxruntime",
    "causal 0": "onnxruntime",
    "k_quant_type": "onnxruntime",
    "v_quant_type": "onnxruntime",
    "kv_cache_bit_width 8": "onnxruntime",
    "weight_prepacked 1": "onnxruntime",
    "the mean": "onnxruntime",
    "the deviation": "onnxruntime",
}


def outcomes(names: list[str], **variables: str) -> dict[str, str]:
    """Return the outcome of each case. For a crash it includes the end of the standard error."""
    seen: dict[str, str] = {}
    while left := [name for name in names if name not in seen]:
        command = [sys.executable, str(FOLDER / "run_nodes.py"), *left]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)
        before = len(seen)
        for line in done.stdout.splitlines():
            name, *outcome = json.loads(line)
            seen[name] = outcome[0] if outcome else f"crash {done.returncode}: {done.stderr[-3000:]}"
        assert len(seen) > before, done.stderr
    return seen


@cache
def crafted() -> dict[str, str]:
    return outcomes(list(CASES))


@pytest.mark.parametrize("name", CASES)
def test_a_crafted_node_is_refused_or_runs_within_bounds(name: str) -> None:
    outcome = crafted()[name]
    if name in RUN:
        assert outcome == RUN[name]
    else:
        assert outcome.startswith(("refused: ", "failed: ")), outcome


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("both heads huge", "invalid node: GroupQueryAttention: num_heads or kv_num_heads is impossible"),
        ("scale nan", "invalid node: GroupQueryAttention: scale or softcap is impossible"),
        ("num_heads a text", "invalid node: the attribute num_heads has another type"),
        ("N 6", "invalid node: MatMulNBits: weights or scales of another size than N and K say"),
        ("a row far beyond its capacity", "GroupQueryAttention: a row beyond its capacity"),
        ("index 4", "Experts: an index is negative, or not below the number of experts"),
        ("an expert more in gate_up", "invalid node: Experts: weights or scales of gate_up and down that do not agree"),
        ("too many experts", "invalid node: Experts: a number of experts, or a size of gate_up or down, is impossible"),
        ("limit -1", "invalid node: Experts: alpha, beta, limit or cubic is impossible"),
    ],
)
def test_the_error_gives_the_reason(name: str, reason: str) -> None:
    assert reason in crafted()[name]


def checked_library(folder: Path) -> Path:
    """Compile the kernels with the address and undefined-behaviour sanitizers and return the library."""
    (extension,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    path = folder / "checked.so"
    checks = [
        "-O1",
        "-fsanitize=address,undefined,float-cast-overflow",
        "-fno-sanitize-recover=all",
        "-fPIC",
        "-shared",
        "-o",
        path,
    ]
    sources = [ROOT / source for source in extension["sources"]]
    subprocess.run(["g++", *extension["extra-compile-args"], *checks, *sources], check=True)
    return path


def checks(folder: Path) -> dict[str, str]:
    """Return the variables of a process that runs the nodes with a checked library."""
    libraries = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")  # the first intercepts exceptions of the second
    ]
    return {
        "CRAFTED_LIBRARY": str(checked_library(folder)),
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


@pytest.mark.nightly("crafted nodes")
def test_random_nodes(full: bool, figure: Callable[[str], None], tmp_path: Path) -> None:
    """The quick form uses the library itself, the full form one that is compiled with both sanitizers."""
    variables = checks(tmp_path) if full else {}
    names = [*map(str, range(5_000 if full else 100)), *(CASES if full else [])]
    if full:  # the sanitizers find a fault that is there
        probes = outcomes(["no fault", "read past a tensor", "misaligned write"], **variables)
        assert probes["no fault"] == "own"
        assert "AddressSanitizer: heap-buffer-overflow" in probes["read past a tensor"]
        assert "runtime error: store to misaligned address" in probes["misaligned write"]
    found = outcomes(names, **variables)
    assert {name: text for name, text in found.items() if text.startswith("crash")} == {}
    ran = sum(text == "own" for text in found.values())
    assert ran > len(names) / 5
    figure(
        f"{len(found):,} nodes under the address and undefined-behaviour sanitizers: {ran:,} ran, "
        "the others were refused or fell back, no fault"
    )


OLD_RUNTIME = """
import ctypes, sys
messages = []
@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
def create_status(code, message):
    messages.append(message.decode())
    return 1
@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
def get_api(version):
    return ctypes.addressof(first) if version == 1 else None
first = (ctypes.c_void_p * 1)(ctypes.cast(create_status, ctypes.c_void_p))
base = (ctypes.c_void_p * 1)(ctypes.cast(get_api, ctypes.c_void_p))
register = ctypes.CDLL(sys.argv[1]).RegisterCustomOps
register.restype = ctypes.c_void_p
assert register(None, base)
print(*messages)
"""


def test_an_onnx_runtime_without_the_api_version_gets_an_error_that_says_so() -> None:
    command = [sys.executable, "-c", OLD_RUNTIME, str(native.library())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "this ONNX Runtime is older than infrs's kernels need" in done.stdout
