"""Graphs of one operator, opened as the server opens a bundle's graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from infrs.engine.runners.session import create_session, kernels_of
from infrs.native.options import AUTO, KernelOptions, StoredDtype

Floats = npt.NDArray[np.float32]
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
Shape = Sequence[int | str] | None  # None: of any rank


def graph_of(
    kind: str,
    inputs: Mapping[str, tuple[int, Shape] | npt.NDArray[Any] | None],
    outputs: Mapping[str, Shape],
    attributes: Mapping[str, object],
) -> onnx.ModelProto:
    """Return a graph of one com.microsoft node with float32 outputs.

    An input is a type and a shape, a constant, or None if it is omitted.
    """
    constants = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    given = {name: value for name, value in inputs.items() if isinstance(value, tuple)}
    node = helper.make_node(
        kind,
        [name if value is not None else "" for name, value in inputs.items()],
        list(outputs),
        domain="com.microsoft",
        **attributes,
    )
    present = {name: shape for name, shape in outputs.items() if name}
    return helper.make_model(
        helper.make_graph(
            [node],
            kind,
            [helper.make_tensor_value_info(name, *value) for name, value in given.items()],
            [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in present.items()],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )


def has_avx512() -> bool:
    """Return whether this processor has the instructions of the AVX-512 kernels."""
    return {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"} <= set(Path("/proc/cpuinfo").read_text().split())


def has_vnni() -> bool:
    """Return whether this processor multiplies bytes in one instruction."""
    return has_avx512() or "avx_vnni" in Path("/proc/cpuinfo").read_text().split()


def has_bf16() -> bool:
    """Return whether this processor has the instructions of the kernels that round activations to bfloat16."""
    return has_avx512() and "avx512_bf16" in Path("/proc/cpuinfo").read_text().split()


def opened(
    model: onnx.ModelProto, threads: int = 1, kernels: KernelOptions = AUTO, *, kv_dtype: StoredDtype = "float32"
) -> ort.InferenceSession:
    """Return a session of the graph, with any kernels."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return create_session(path, threads, kernels=kernels, kv_dtype=kernels.stored_dtype(kv_dtype))


def opened_with_own(
    model: onnx.ModelProto, threads: int = 1, kernels: KernelOptions = AUTO, *, kv_dtype: StoredDtype = "float32"
) -> ort.InferenceSession:
    """Return a session of the graph and check that infrs's kernels run it."""
    session = opened(model, threads, kernels, kv_dtype=kv_dtype)
    assert kernels_of(session), "infrs's kernels are not in use: were they built? See CONTRIBUTING.md"
    return session
