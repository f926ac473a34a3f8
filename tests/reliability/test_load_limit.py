"""A load that takes too long, and weights that are truncated while they are mapped, end the process with a message."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import infrs.native
from infrs.errors import BundleError, EngineError

pytestmark = pytest.mark.skipif(infrs.native.library() is None, reason="the kernels' library was not built")

# ONNX Runtime folds the products when it opens the graph, and holds the interpreter lock.
OPEN = """
from pathlib import Path
from infrs.engine.runners.session import create_session
from infrs.models.load_limit import begin_step, limit_time
with limit_time({seconds}, "org/slow"):
    begin_step("to open and try its graph")
    print("opening", flush=True)
    create_session(Path({path!r}), 1)
"""
SIZE, PRODUCTS = 1024, 20_000  # 2 GFLOP each


@pytest.fixture
def slow_graph(tmp_path: Path) -> Path:
    """A graph of a few megabytes that takes many minutes to open."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [SIZE, SIZE])
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1 / SIZE])
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["p0"], value=value)]
    nodes += [helper.make_node("MatMul", [f"p{n}", f"p{n}"], [f"p{n + 1}"]) for n in range(PRODUCTS)]
    output = helper.make_tensor_value_info(f"p{PRODUCTS}", TensorProto.FLOAT, [SIZE] * 2)
    graph = helper.make_graph(nodes, "slow", [], [output], [shape])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def opening(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Return a process that opens a graph."""
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN.format(path=str(path), seconds=seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "opening\n"
    return process


def test_load_beyond_its_limit_ends_with_the_name_of_the_step(slow_graph: Path) -> None:
    process = opening(slow_graph, 1.5)
    _, error = process.communicate(timeout=60)
    assert process.returncode == BundleError.exit_code
    assert error == (
        "infrs-serve: org/slow was not loaded within server.load_timeout, 1.5 s; the step that did not end was "
        "to open and try its graph; raise that, or export the model again\n"
    )


def test_signal_ends_a_load_that_holds_the_interpreter_lock(slow_graph: Path) -> None:
    process = opening(slow_graph, 600)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def test_load_within_its_limit_is_not_ended() -> None:
    code = "import time; from infrs.models.load_limit import limit_time\nwith limit_time(0.5, 'a'): pass\ntime.sleep(1)"
    subprocess.run([sys.executable, "-c", code], check=True)


TRUNCATE = """
import mmap, os, signal
from infrs.models.load import explain_truncation
explain_truncation()
with open({path!r}, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.truncate({path!r}, 0)
{reader}
"""
FILL = """
import os
os.set_blocking(2, False)
try:
    while os.write(2, bytes(4096)):
        pass
except BlockingIOError:
    os.set_blocking(2, True)
"""
READERS = {
    "main thread": "mapped[0]",
    "other thread": "import threading; threading.Thread(target=lambda: mapped[0]).start()",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("pipe", ["open", "full"])
def test_truncated_mapping_ends_the_process_with_a_message(reader: str, pipe: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(10_000))
    code = (FILL if pipe == "full" else "") + TRUNCATE.format(path=str(path), reader=READERS[reader])
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert process.wait(60) == EngineError.exit_code
    assert process.stderr is not None
    error = process.stderr.read()
    if pipe == "open":
        assert error.startswith("infrs-serve: another program truncated a file that this server has mapped")
        assert error.count("\n") == 1
