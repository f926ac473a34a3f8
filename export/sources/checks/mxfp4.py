"""Experts in MXFP4, as OpenAI publishes gpt-oss. transformers dequantises them; this checks each value of the result.

A parameter is two tensors. `_blocks`, uint8 [E, rows, blocks, 16], has 32 values of 4 bits in a block, the first in the
low half of a byte. `_scales`, uint8 [E, rows, blocks], has the exponent of a power of two for each block. The format is
that of the OCP Microscaling specification 1.0. transformers stores the matrices of gpt-oss with the inputs first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from infrs.errors import SourceError

from ..checkpoint import Stored, read_header, weight_files
from .places import Place

_BLOCKS, _SCALES = "_blocks", "_scales"
_WIDTH = 32  # values of a block
_BIAS, _NAN = 127, 255  # of a scale
_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # by the lower 3 bits; the fourth is the sign


def unpacked(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return the tensors of a checkpoint with the parameter [E, inputs, rows] in the place of both parts of each."""
    rest = dict(tensors)
    for name, (shape, dtype) in tensors.items():
        scales = name.removesuffix(_BLOCKS) + _SCALES
        if not name.endswith(_BLOCKS) or dtype != "U8" or tensors.get(scales) != Stored(shape[:-1], "U8"):
            continue
        match shape:
            case experts, rows, blocks, bytes_ if bytes_ * 2 == _WIDTH:
                del rest[name], rest[scales]
                rest[name.removesuffix(_BLOCKS)] = Stored((experts, blocks * _WIDTH, rows), "BF16")
    return rest


def check_mxfp4(model_id: str, model: nn.Module, directory: Path, uses: Mapping[str, Place]) -> None:
    """Raise SourceError unless each parameter of `uses` that the files hold in MXFP4 has the values of its parts."""
    files = {name: path for path in weight_files(directory) for name in read_header(path)}
    state = model.state_dict(keep_vars=True)
    for name in sorted(uses):
        if (blocks := name + _BLOCKS) not in files:
            continue
        scales = name + _SCALES
        with (
            safe_open(files[blocks], framework="pt") as first,
            safe_open(files[scales], framework="pt") as second,
        ):
            parts = first.get_slice(blocks), second.get_slice(scales)
            for expert, loaded in enumerate(uses[name].of(state)):
                codes, exponents = (part[expert : expert + 1][0] for part in parts)
                if (exponents == _NAN).any():
                    raise SourceError(f"{scales} of {model_id} holds NaN; download the model again")
                if not torch.equal(_values(codes, exponents).T, loaded):
                    raise SourceError(f"transformers loads {name} with other values than {blocks}; report this model")


def _values(codes: Tensor, exponents: Tensor) -> Tensor:
    """Return the matrix [rows, inputs], float32, of blocks [rows, blocks, 16] and their scales [rows, blocks]."""
    table = torch.tensor([*_VALUES, *(-value for value in _VALUES)])
    pairs = torch.stack([codes & 15, codes >> 4], dim=-1).long()
    scaled = torch.ldexp(table[pairs].flatten(2), exponents.int()[..., None] - _BIAS)
    return scaled.flatten(1)
