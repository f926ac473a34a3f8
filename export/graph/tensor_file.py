"""The external data file of a graph: tensors are written one by one, so they are never all in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import onnx
from numpy.typing import NDArray

ALIGNMENT = 4096  # a page: the ONNX specification asks for it so that readers can map the file
INLINE_BYTES = 1024  # smaller tensors stay in the graph itself, where shape inference can read them


class TensorFile:
    """An append-only writer. The same tensors in the same order give the same bytes.

    Equal bytes are stored once, whatever their name, shape or type, so tied weights share their storage.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO
        self._offsets: dict[bytes, int] = {}

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, array: NDArray[Any]) -> onnx.TensorProto:
        """Write `array` (any numpy or ml_dtypes type) and return the initializer that refers to it.

        Raises OSError if the file cannot be written.
        """
        tensor = onnx.TensorProto(
            name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape
        )
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        if array.nbytes <= INLINE_BYTES:
            tensor.raw_data = bytes(data)
            return tensor
        offset = self._write(data)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", self._path.name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def _write(self, data: memoryview) -> int:
        digest = hashlib.sha256(data).digest()
        if digest not in self._offsets:
            end = self._file.tell()
            self._file.write(bytes(-end % ALIGNMENT))
            self._offsets[digest] = self._file.tell()
            self._file.write(data)
        return self._offsets[digest]
