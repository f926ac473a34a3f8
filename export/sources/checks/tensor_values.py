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
from .places import Place

_VALUES = 1 << 22  # compared at a time


def check_values(model_id: str, model: nn.Module, directory: Path, uses: Mapping[str, Place]) -> None:
    """Raise SourceError unless each parameter equals its tensors and is finite. uses: the places of the tensors."""
    state = model.state_dict(keep_vars=True)
    for path in weight_files(directory):
        with safe_open(path, framework="pt") as file:
            for name in sorted(uses.keys() & set(file.keys())):
                values = uses[name].of(state)
                for stored, loaded in _parts(file, name, values):
                    if not torch.isfinite(stored).all():
                        raise SourceError(f"{name} of {model_id} holds NaN or infinity; download the model again")
                    if not torch.equal(stored, loaded):
                        raise SourceError(
                            f"transformers loads {uses[name].parameter} with other values than {name} has; "
                            "report this model"
                        )


def check_ties(outline: nn.Module, model: nn.Module) -> None:
    """Raise SourceError unless the names that are one parameter in `outline` are one in `model`.

    transformers does not tie parameters with different tensors, whatever config.json says.
    """
    loaded, first = model.state_dict(keep_vars=True), dict[int, str]()
    for name, parameter in outline.state_dict(keep_vars=True).items():
        other = first.setdefault(id(parameter), name)
        if loaded[other] is not loaded[name]:
            raise SourceError(
                f"config.json: tie_word_embeddings is true, but {other} and {name} differ in the "
                "weights; set it to false if the model has both"
            )


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
