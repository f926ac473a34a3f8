"""Which kernels run a session: the settings `engine.kernels`, `.instructions`, `.precision` and `.kv_dtype`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Library = Literal["auto", "onnxruntime"]
Instructions = Literal["auto", "avx2", "avx-vnni"]
Precision = Literal["auto", "high"]
StoredDtype = Literal["float32", "float16", "int8"]  # of keys and values in memory
KVDtype = Literal["auto", StoredDtype]


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Which kernels run a session.

    kernels: "auto" uses infrs's kernels for the nodes that they implement; "onnxruntime" uses none of them.
    instructions: "auto" uses the best that the processor has; "avx-vnni" no AVX-512; "avx2" neither of the two.
    precision: "auto" rounds activations as each node says; "high" rounds them to 16 bits next to 8-bit weights, and not
    next to bfloat16 weights.
    kv_dtype: of the stored keys and values. "auto" is what the bundle says, or 32 bits with the precision "high".
    """

    kernels: Library = "auto"
    instructions: Instructions = "auto"
    precision: Precision = "auto"
    kv_dtype: KVDtype = "auto"

    def stored_dtype(self, usual: StoredDtype) -> StoredDtype:
        """Return the dtype in which keys and values are stored. usual: what the bundle says."""
        if self.kv_dtype != "auto":
            return self.kv_dtype
        return "float32" if self.precision == "high" else usual


AUTO = KernelOptions()
AVX2 = KernelOptions(instructions="avx2")
AVX_VNNI = KernelOptions(instructions="avx-vnni")
PRECISE = KernelOptions(precision="high")
ONNXRUNTIME = KernelOptions(kernels="onnxruntime")
