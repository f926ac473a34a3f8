"""How much each input of a product matters: the mean square of what comes in, measured on a text.

A rounded weight is off by e, its product by e * x: the expected square of that is e**2 times the input's mean square,
which a search for scales then minimises instead of e**2 alone (as llama.cpp's importance matrix does).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .calibration_text import TEXT

Importance = dict[str, NDArray[np.float32]]  # by the name of a weight's parameter: [K], above zero

_PIECE = 512  # tokens in one run: bounds the memory
_MOST_WORK = 4e12  # multiplications: a model of 7 billion weights reads 571 tokens, of 2 billion all 1,900 or so
_FEWEST_TOKENS = 32  # that a product must have seen: an expert of a mixture may see none
_FLOOR = 1e-4  # of the mean: an input that the text left silent still counts


def measure_importance(
    model: PreTrainedModel,
    encode: Callable[[str], list[int]],
    context_length: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Importance:
    """What the linear layers of `model` (float32, CPU) below its head take in, while it reads a fixed text.

    Deterministic. A product is missing where the text did not reach it often enough, or its inputs were not finite.
    """
    ids = np.array(encode(TEXT), np.int64)[: max(_PIECE, int(_MOST_WORK / model.num_parameters()))]
    size = min(_PIECE, context_length)
    squares: dict[str, Tensor] = {}
    counts: dict[str, int] = defaultdict(int)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = [module for module in model.base_model.modules() if isinstance(module, nn.Linear | Conv1D)]
    hooks = [
        layer.register_forward_pre_hook(partial(_add, names[id(layer.weight)], squares, counts)) for layer in layers
    ]
    try:
        with torch.inference_mode():
            for start in range(0, len(ids), size):
                progress(start, len(ids))
                model.base_model(torch.from_numpy(ids[None, start : start + size]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    progress(len(ids), len(ids))
    means = {name: (total / counts[name]).numpy() for name, total in squares.items() if counts[name] >= _FEWEST_TOKENS}
    return {
        name: np.maximum(mean, _FLOOR * mean.mean()).astype(np.float32)
        for name, mean in means.items()
        if np.isfinite(mean).all() and mean.mean() > 0
    }


def _add(
    name: str, squares: dict[str, Tensor], counts: dict[str, int], _module: nn.Module, inputs: tuple[Any, ...]
) -> None:
    rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
    squares[name] = squares.get(name, 0) + rows.square().sum(0)
    counts[name] += len(rows)
