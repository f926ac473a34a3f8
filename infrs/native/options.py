"""Which kernels run a session: the values of the settings `engine.kernels`, `.instructions` and `.precision`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Library = Literal["auto", "onnxruntime"]
Instructions = Literal["auto", "avx2"]
Precision = Literal["auto", "high"]


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Which kernels run a session.

    kernels: "auto" uses infrs's kernels for the nodes that they implement; "onnxruntime" uses none of them.
    instructions: "auto" uses the widest vectors that the processor has; "avx2" uses no AVX-512.
    precision: "auto" rounds activations as each node says and stores keys and values in 16 bits next to quantized
    weights; "high" rounds activations to 16 bits for all 8-bit weights and stores keys and values in 32 bits.
    """

    kernels: Library = "auto"
    instructions: Instructions = "auto"
    precision: Precision = "auto"


AUTO = KernelOptions()
AVX2 = KernelOptions(instructions="avx2")
PRECISE = KernelOptions(precision="high")
ONNXRUNTIME = KernelOptions(kernels="onnxruntime")
