"""Measure the inputs of each product on a text: the mean products of pairs of inputs (the Hessian).

A rounded weight has an error e, and its product e * x. The expected square of that is e**2 times the input's mean
square. The search for scales minimises this instead of e**2 alone, as llama.cpp's importance matrix does. The products
of two different inputs show how far one can compensate for the error of the other (`gptq`).
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

# By the name of a weight's parameter: [S, size, size], of inputs in S segments, with a positive diagonal.
Moments = dict[str, NDArray[np.float32]]

_PIECE = 512  # tokens in one run; limits the memory
_MOST_WORK = 4e12  # multiplications: a model of 7 billion weights reads 571 tokens, of 2 billion all 1,900 or so
_FEWEST_TOKENS = 32  # the minimum for a product; an expert of a mixture may get none
_FLOOR = 1e-4  # of the mean square: an input that is zero on this text still counts
SEGMENT = 1024  # maximum number of inputs; keeps the moments much smaller than the model, whatever its width
_GRAIN = 32  # a segment is whole blocks of weights


def measure_moments(
    model: PreTrainedModel,
    encode: Callable[[str], list[int]],
    context_length: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    segment: int = SEGMENT,
) -> Moments:
    """Return the moments of the inputs of `model`'s linear layers (float32, CPU), without its head, on a fixed text.

    Deterministic. A product is omitted if too few tokens reached it or its inputs were not finite. segment: the maximum
    number of inputs of a segment.
    """
    ids = np.array(encode(TEXT), np.int64)[: max(_PIECE, int(_MOST_WORK / model.num_parameters()))]
    size = min(_PIECE, context_length)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = [module for module in model.base_model.modules() if isinstance(module, nn.Linear | Conv1D)]
    seen = _Seen(segment)
    hooks = [layer.register_forward_pre_hook(partial(seen.add, names[id(layer.weight)])) for layer in layers]
    try:
        with torch.inference_mode():
            for start in range(0, len(ids), size):
                progress(start, len(ids))
                model.base_model(torch.from_numpy(ids[None, start : start + size]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    progress(len(ids), len(ids))
    return seen.means()


class _Seen:
    """Sums over the inputs of products. Successive products with the same input tensor share a sum."""

    def __init__(self, segment: int) -> None:
        self._segment = segment
        self._first: dict[str, str] = {}  # the first of the products that share a tensor, by the name of each
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._last: tuple[str, Tensor] | None = None

    def add(self, name: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        tensor: Tensor = inputs[0]
        shared = self._last[0] if self._last is not None and self._last[1] is tensor else name
        if self._first.setdefault(name, shared) != name:
            return
        self._last = name, tensor
        rows = _in_segments(tensor.reshape(-1, tensor.shape[-1]), self._segment)
        self._sums[name] = self._sums.get(name, 0) + rows.transpose(1, 2) @ rows
        self._counts[name] += rows.shape[1]

    def means(self) -> Moments:
        """Return the means of products with enough tokens and finite inputs."""
        known: Moments = {}
        for name, count in self._counts.items():
            mean = (self._sums.pop(name) / count).numpy()  # removes the sum, so that both exist for one name only
            if count >= _FEWEST_TOKENS and np.isfinite(mean).all() and mean.any():
                known[name] = lift_silent(mean)
        return {name: known[first] for name, first in self._first.items() if first in known}


def lift_silent(moments: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raise the diagonal of moments [S, size, size] to a share of its mean, in place."""
    place = np.arange(moments.shape[1])
    squares = moments[:, place, place]
    moments[:, place, place] = np.maximum(squares, _FLOOR * squares.mean())
    return moments


def _in_segments(rows: Tensor, segment: int) -> Tensor:
    """Split [T, K] into segments [S, T, size]: as few as possible, of equal size, padded with zeros."""
    inputs = rows.shape[1]
    count = -(-inputs // segment)
    size = -(-inputs // (count * _GRAIN)) * _GRAIN
    padded = nn.functional.pad(rows, (0, count * size - inputs))
    return padded.reshape(len(rows), count, size).transpose(0, 1)
