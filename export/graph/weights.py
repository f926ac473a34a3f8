"""The weights that the placeholders of a traced graph name, read from the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..recipes.experts import ExpertWeights
from ..recipes.lowering import Weight
from .fusions.attention import Module
from .fusions.experts import PARTS, alternates, gate_of, top_k


class ModelWeights:
    """The weights of `model` as `Weight`s. A single matrix is a view of the parameter, a stacked one a copy."""

    def __init__(self, model: PreTrainedModel, moments: Mapping[str, NDArray[np.float32]]) -> None:
        self._moments = moments
        self._config = model.config
        self._modules = dict(model.named_modules())
        # A shared parameter is listed once, under its first name: tied weights get the same source.
        self._sources = {id(parameter): name for name, parameter in model.named_parameters()}

    def get(self, name: str, modules: list[str], groups: Mapping[str, tuple[int, Sequence[int]]]) -> Weight:
        """Return the weight `name`: the matrices of `modules`, stacked along their outputs.

        groups: of the modules with rows in groups, their number and the sizes of their parts (`Groups`).
        """
        parts = [self._modules[module] for module in modules]
        arrays = [_matrix(part) for part in parts]
        biases = [_bias(part, len(array)) for part, array in zip(parts, arrays, strict=True)]
        for place, module in enumerate(modules):
            if module in groups:
                arrays[place] = _by_part(arrays[place], *groups[module])
                biases[place] = _by_part(biases[place], *groups[module])
        has_bias = any(getattr(part, "bias", None) is not None for part in parts)
        sources = [self._sources[id(part.weight)] for part in parts]
        return Weight(
            name=name,
            source="+".join(sources),
            array=arrays[0] if len(arrays) == 1 else np.concatenate(arrays),
            bias=np.concatenate(biases) if has_bias else None,
            moments=self._moments.get(sources[0]),  # of the inputs, which stacked products share
        )

    def experts(self, name: str) -> ExpertWeights:
        """Return the weights of the experts in the module `name`, with alternating rows of gate and up."""
        module = self._modules[name]
        (gate_up, gate_up_bias), (down, down_bias) = (self._stack(module, part) for part in PARTS)
        if alternates(module):  # gpt_oss: inputs first
            gate_up, down = gate_up.transpose(0, 2, 1), down.transpose(0, 2, 1)
        else:
            gate_up = _alternate(gate_up)
            gate_up_bias = None if gate_up_bias is None else _alternate(gate_up_bias)
        return ExpertWeights(
            name=name,
            source=name,
            gate_up=np.ascontiguousarray(gate_up),
            down=np.ascontiguousarray(down),
            gate_up_bias=gate_up_bias,
            down_bias=down_bias,
            gate=gate_of(module),
            top_k=top_k(self._config),
        )

    @staticmethod
    def _stack(module: Module, part: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return a parameter of all experts, and its bias if there is one."""
        bias = getattr(module, f"{part}_bias", None)
        return _array(getattr(module, part)), None if bias is None else _array(bias)


def _alternate(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn [E, gates then ups, ...] into [E, gate, up, gate, up, ...]."""
    gates, ups = np.split(array, 2, axis=1)
    return np.stack([gates, ups], axis=2).reshape(array.shape)


def _by_part(rows: NDArray[np.float32], count: int, sizes: Sequence[int]) -> NDArray[np.float32]:
    """Turn rows by group, [count * sum(sizes), ...], into rows by part."""
    grouped = rows.reshape(count, sum(sizes), *rows.shape[1:])
    parts = np.split(grouped, np.cumsum(sizes)[:-1], axis=1)
    return np.concatenate([part.reshape(-1, *rows.shape[1:]) for part in parts])


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().float().numpy(), np.float32)


def _matrix(module: Module) -> NDArray[np.float32]:
    """Return the matrix [outputs, inputs]; GPT-2's Conv1D stores the transpose."""
    weight = _array(module.weight)
    return np.ascontiguousarray(weight.T) if isinstance(module, Conv1D) else weight


def _bias(module: Module, width: int) -> NDArray[np.float32]:
    bias = getattr(module, "bias", None)
    return np.zeros(width, np.float32) if bias is None else _array(bias)
