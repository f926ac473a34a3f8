"""Check that the loaded parameters are the checkpoint's tensors, value by value.

This reads the files a second time, without transformers: whatever it does with names, prefixes and ties while it
loads, each parameter must equal its tensor afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from infrs.errors import SourceError

from ..checkpoint import weight_files

_VALUES = 1 << 22  # compared at a time


def check_values(model_id: str, model: nn.Module, directory: Path, uses: Mapping[str, str]) -> None:
    """Raise SourceError unless each parameter equals its tensor and is finite. uses: parameters by tensor."""
    state = model.state_dict(keep_vars=True)
    for path in weight_files(directory):
        with safe_open(path, framework="pt") as file:
            for name in sorted(uses.keys() & set(file.keys())):
                parameter = state[uses[name]]
                if parameter.is_meta:
                    raise SourceError(
                        f"transformers does not fill {uses[name]} of {model_id} from {name}; save the model again"
                    )
                for stored, loaded in _parts(file, name, parameter.detach()):
                    if not torch.isfinite(stored).all():
                        raise SourceError(f"{name} of {model_id} holds NaN or infinity; download the model again")
                    if not torch.equal(stored, loaded):
                        raise SourceError(_differs(name, uses, state))


def check_finite(model_id: str, model: nn.Module) -> None:
    """Raise SourceError, with a name, if a parameter holds NaN or infinity."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise SourceError(f"{name} of {model_id} holds NaN or infinity; download the model again")


def _parts(file: Any, name: str, loaded: Tensor) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ANN401  # has no stubs
    """Yield the values of a tensor and of its parameter, a few rows at a time."""
    if not loaded.ndim:
        yield file.get_tensor(name).to(loaded.dtype), loaded
        return
    rows = max(1, _VALUES * len(loaded) // max(1, loaded.numel()))
    stored = file.get_slice(name)
    for start in range(0, len(loaded), rows):
        yield stored[start : start + rows].to(loaded.dtype), loaded[start : start + rows]


def _differs(name: str, uses: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    shared = [other for other in uses if state[uses[other]] is state[uses[name]]]
    if len(shared) > 1:
        return (
            f"config.json: tie_word_embeddings is true, but {' and '.join(sorted(shared, reverse=True))} differ in the "
            "weights; set it to false if the model has both"
        )
    return f"transformers loads {uses[name]} with other values than {name} has; report this model"
