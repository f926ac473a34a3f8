"""Which kernels run a session: infrs's for every node that they implement, and ONNX Runtime's for the others."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import attention_graph
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from kernel_graphs import FLOAT, graph_of, has_avx512, has_bf16, has_vnni, opened

from infrs import native
from infrs.engine.runners.session import create_session, fallback_nodes, kernels_of
from infrs.errors import BundleError
from infrs.native.options import AUTO, AVX2, AVX_VNNI, ONNXRUNTIME, PRECISE, KernelOptions

RNG = np.random.default_rng(0)


def product(bits: int = 4, block: int = 32, inputs: int = 64, zero_points: bool = False) -> onnx.ModelProto:
    blocks = -(-inputs // block)
    given: dict[str, Any] = {
        "x": (FLOAT, ["rows", inputs]),
        "values": RNG.integers(0, 256, (5, blocks, block * bits // 8), dtype=np.uint8),
        "scales": RNG.standard_normal((5, blocks)).astype(np.float32),
    }
    if zero_points:
        given["zero_points"] = RNG.integers(0, 256, (5, -(-blocks * bits // 8)), dtype=np.uint8)
    attributes = {"N": 5, "K": inputs, "bits": bits, "block_size": block}
    return graph_of("MatMulNBits", given, {"y": ["rows", 5]}, attributes)


def biased_norm() -> onnx.ModelProto:
    shape = ["rows", 64]
    weights = {name: RNG.standard_normal(64).astype(np.float32) for name in ("gamma", "bias")}
    given: dict[str, Any] = {"x": (FLOAT, shape), "skip": (FLOAT, shape)} | weights
    return graph_of("SkipSimplifiedLayerNormalization", given, {"y": shape}, {})


def attention(dim: int = 64, **attributes: object) -> onnx.ModelProto:
    return attention_graph.model(attention_graph.Form(heads=2, dim=dim), **attributes)


def unknown_head_dim() -> onnx.ModelProto:
    model = attention()
    for value in [*model.graph.input, *model.graph.output]:
        if "_key" in value.name or "_value" in value.name:
            value.type.tensor_type.shape.dim[3].dim_param = "head_dim"
    return model


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return inputs of three rows with one token each."""
    sizes = {"rows": 3, "tokens": 1, "capacity": 8}
    feeds = {}
    for value in model.graph.input:
        shape = [dim.dim_value or sizes.get(dim.dim_param, 64) for dim in value.type.tensor_type.shape.dim]
        feeds[value.name] = RNG.standard_normal(shape).astype(np.float32)
    if "lengths" in feeds:
        feeds |= {"lengths": np.zeros(3, np.int32), "total": np.array(1, np.int32)}
    return feeds


UNSUPPORTED = {
    "blocks of 16": (product(block=16), "only whole blocks of 32"),
    "blocks of 64": (product(block=64), "only whole blocks of 32"),
    "zero points": (product(zero_points=True), "no zero points"),
    "a part of a block": (product(inputs=48), "only whole blocks of 32"),
    "two bits": (product(bits=2), "only 4 and 8 bits"),
    "a biased norm": (biased_norm(), "no bias"),
    "smooth softmax": (attention(smooth_softmax=1), "only the plain softmax"),
    "an unknown head_dim": (unknown_head_dim(), "head_dim"),
    "a very wide head": (attention(dim=520), "head_dim"),
}
every_unsupported = pytest.mark.parametrize(("model", "reason"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())


@every_unsupported
def test_a_graph_of_unsupported_nodes_runs_on_onnx_runtimes_kernels(
    model: onnx.ModelProto, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        session = opened(model)
    (record,) = caplog.records
    assert "ONNX Runtime's slower kernels run the whole graph" in record.message
    assert reason in record.message
    assert kernels_of(session) == ""
    assert fallback_nodes(session) == ()
    feeds = feeds_of(model)
    expected = opened(model, kernels=ONNXRUNTIME).run(None, feeds)[0]
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(session.run(None, feeds)[0], expected)


def test_a_graph_that_no_kernel_can_run_is_refused_without_a_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(product().SerializeToString()[:-40])
    with caplog.at_level(logging.WARNING), pytest.raises(BundleError, match="ONNX Runtime cannot open"):
        create_session(path, 1)
    assert caplog.records == []


def test_a_session_names_its_instructions_and_build(caplog: pytest.LogCaptureFixture) -> None:
    library = native.library()
    assert library is not None
    widest, precise = "avx2", "avx2"
    if has_vnni():
        widest, precise = ("avx512", "avx512-precise") if has_avx512() else ("avx-vnni", "avx-vnni-precise")
    widest += "-bf16" if has_bf16() else ""
    vnni = "avx-vnni" if has_vnni() else "avx2"
    with caplog.at_level(logging.WARNING):
        assert kernels_of(opened(product())) == f"{widest} {native.build_id(library)}"
        assert kernels_of(opened(product(), kernels=PRECISE)) == f"{precise} {native.build_id(library)}"
        assert kernels_of(opened(product(), kernels=AVX2)) == f"avx2 {native.build_id(library)}"
        assert kernels_of(opened(product(), kernels=AVX_VNNI)) == f"{vnni} {native.build_id(library)}"
    assert caplog.records == []
    assert kernels_of(opened(product(), kernels=ONNXRUNTIME)) == ""


def test_the_library_learns_how_many_threads_a_session_has() -> None:
    for threads in (1, 3):
        options = opened(product(), threads).get_session_options()
        assert options.get_session_config_entry("infrs.threads") == str(options.intra_op_num_threads) == str(threads)


@pytest.mark.parametrize("threads", ["0", "-1", "many", "99999"])
def test_an_impossible_number_of_threads_is_refused(threads: str) -> None:
    options = ort.SessionOptions()
    options.add_session_config_entry("infrs.threads", threads)
    with pytest.raises(Exception, match=r"infrs\.threads is not a number of threads"):
        options.register_custom_ops_library(str(native.library()))


def test_without_the_library_onnx_runtime_runs_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    model = product()
    feeds = feeds_of(model)
    expected = opened(model, kernels=ONNXRUNTIME).run(None, feeds)[0]
    monkeypatch.setattr("infrs.native.find_spec", lambda name: None)
    session = opened(model)
    assert kernels_of(session) == ""
    np.testing.assert_array_equal(session.run(None, feeds)[0], expected)


@pytest.mark.parametrize("kernels", [AUTO, PRECISE, AVX_VNNI, AVX2, ONNXRUNTIME])
def test_the_library_is_loaded_only_if_the_options_ask_for_it(kernels: KernelOptions, tmp_path: Path) -> None:
    onnx.save(product(), tmp_path / "model.onnx")
    code = f"""
from pathlib import Path
from infrs.engine.runners.session import create_session
from infrs.native.options import KernelOptions
session = create_session(Path({str(tmp_path / "model.onnx")!r}), 1, kernels={kernels!r})
print("infrs/native/kernels" in Path("/proc/self/maps").read_text())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() == str(kernels != ONNXRUNTIME)


def test_sessions_share_the_library_whichever_ends_first() -> None:
    model = product()
    feeds = feeds_of(model)
    first = opened(model)
    expected = first.run(None, feeds)[0]
    for _ in range(5):
        second = opened(model, threads=2)
        np.testing.assert_array_equal(second.run(None, feeds)[0], expected)
        first = second


def resident(folder: Path) -> int:
    """Return how many bytes of a folder's files are in this process's memory."""
    size, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            counts = f" {folder}/" in line
        elif counts and line.startswith("Rss:"):
            size += int(line.split()[1]) * 1024
    return size


def test_pages_of_weights_are_released_and_come_back(tmp_path: Path) -> None:
    model = graph_of(
        "MatMulNBits",
        {
            "x": (FLOAT, ["rows", 1024]),
            "values": RNG.integers(0, 256, (1024, 32, 32), dtype=np.uint8),
            "scales": RNG.standard_normal((1024, 32)).astype(np.float32),
        },
        {"y": ["rows", 1024]},
        {"N": 1024, "K": 1024, "bits": 8, "block_size": 32},
    )
    feeds = {"x": RNG.standard_normal((3, 1024)).astype(np.float32)}
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    sessions = {kernels: create_session(path, 1, kernels=kernels) for kernels in (ONNXRUNTIME, AUTO)}
    before = {kernels: session.run(None, feeds)[0] for kernels, session in sessions.items()}
    mapped = np.memmap(tmp_path / "weights.bin", np.uint8, mode="r")
    total = int(mapped.sum())
    assert resident(tmp_path) >= 1 << 20
    native.release_pages(tmp_path)
    assert resident(tmp_path) == 0
    assert int(mapped.sum()) == total
    for kernels, session in sessions.items():
        np.testing.assert_array_equal(session.run(None, feeds)[0], before[kernels])
