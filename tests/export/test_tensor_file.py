"""The external data file: alignment, sharing, and what stays in the graph."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from infrs_export.graph.tensor_file import ALIGNMENT, INLINE_BYTES, TensorFile
from numpy.typing import NDArray


def place(tensor: onnx.TensorProto) -> dict[str, str]:
    return {item.key: item.value for item in tensor.external_data}


def test_tensors_read_back_from_aligned_offsets(tmp_path: Path) -> None:
    arrays = [np.arange(n, dtype=np.float32) for n in (1000, 777, 5000)]
    with TensorFile(tmp_path / "data") as file:
        tensors = [file.add(f"t{index}", array) for index, array in enumerate(arrays)]
    for tensor, array in zip(tensors, arrays, strict=True):
        assert int(place(tensor)["offset"]) % ALIGNMENT == 0
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor, str(tmp_path)), array)


def test_equal_bytes_are_stored_once_under_any_shape(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    with TensorFile(tmp_path / "data") as file:
        first, second = file.add("a", array), file.add("b", array.reshape(64, 8, 8))
    assert place(first) == place(second)
    assert list(second.dims) == [64, 8, 8]
    assert (tmp_path / "data").stat().st_size == array.nbytes


@pytest.mark.parametrize("array", [np.array(3, np.int32), np.zeros(INLINE_BYTES // 4, np.float32), np.zeros((2, 0))])
def test_small_tensors_stay_in_the_graph(array: NDArray[np.generic], tmp_path: Path) -> None:
    with TensorFile(tmp_path / "data") as file:
        tensor = file.add("small", array)
    read = onnx.numpy_helper.to_array(tensor)
    assert (read.shape, read.dtype) == (array.shape, array.dtype)
    assert (tmp_path / "data").stat().st_size == 0


def test_transposed_and_bfloat16_arrays_keep_their_values(tmp_path: Path) -> None:
    array = np.arange(6000, dtype=np.float32).reshape(60, 100).T.astype(ml_dtypes.bfloat16)
    with TensorFile(tmp_path / "data") as file:
        tensor = file.add("t", array.T)
    assert tensor.data_type == onnx.TensorProto.BFLOAT16
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor, str(tmp_path)), array.T)
