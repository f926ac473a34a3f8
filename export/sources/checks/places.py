"""Find the place of a checkpoint's tensor in its model: a parameter, or a part of one that holds several tensors.

transformers 5 renames the tensors of some families, and stacks those of experts. Its table of conversions gives the
names; `check_values` compares what the model then holds with the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter, apply_renamings

from infrs.errors import SourceError

_LEGACY = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))  # of TensorFlow

# What transformers does to the tensors of experts: it stacks the matrices, then joins the stacks by their rows.
_JOINED = [(Concatenate, 0)]  # the tensors of a convolution (olmo_hybrid)
_STACKS = ([(MergeModulelist, 0)], [(MergeModulelist, 0), (Concatenate, 1)])


@dataclass(frozen=True)
class Place:
    """The `part` of `parts` equal blocks of rows, in a parameter or in the matrix `index` of a stack of them.

    rows: instead, the first row of the parameter, and the first one after the place.
    """

    parameter: str
    index: int | None = None
    part: int = 0
    parts: int = 1
    rows: tuple[int, int] | None = None

    def of(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return the values at this place as a view."""
        values = state[self.parameter].detach()
        if self.rows is not None:
            return values[slice(*self.rows)]
        if self.index is not None:
            values = values[self.index]
        return values if self.parts == 1 else values.tensor_split(self.parts, dim=-2)[self.part]


class Places:
    """The places of the tensors of one model. state: its parameters and buffers by name.

    heights: the number of rows of each tensor of the checkpoint, by the name that `find` gets.
    """

    def __init__(self, model: nn.Module, state: Mapping[str, Tensor], heights: Mapping[str, int]) -> None:
        self._state = state
        self._heights = heights
        self._prefix: str = getattr(model, "base_model_prefix", "")
        mapping: list[Any] = get_model_conversion_mapping(model) if isinstance(model, PreTrainedModel) else []
        self._converters = [item for item in mapping if isinstance(item, WeightConverter)]
        self._renamings = [item for item in mapping if not isinstance(item, WeightConverter)]

    def find(self, name: str) -> Place | None:
        """Return the place of a tensor, None if it has none.

        Raises SourceError if transformers computes the parameter from the tensor in a way that infrs does not know.
        """
        for old, new in _LEGACY:
            name = re.sub(f"{re.escape(old)}$", new, name)
        renamed = apply_renamings(name, self._renamings)
        for candidate in (name, renamed):
            if (parameter := self._parameter(candidate)) is not None:
                return Place(parameter)
        for converter in self._converters:
            target, source = converter.rename_source_key(renamed)
            if source is not None and (parameter := self._parameter(target)) is not None:
                if [(type(step), getattr(step, "dim", None)) for step in converter.operations] == _JOINED:
                    return self._joined(name, converter.source_patterns, source, parameter)
                return self._part(renamed, converter, source, parameter)
        return None

    def _joined(self, name: str, sources: list[str], source: str, parameter: str) -> Place | None:
        """Return the place of a tensor that follows the tensors of other sources; None if one of them is missing."""
        names = [name.replace(source, other) for other in sources[: sources.index(source) + 1]]
        if not self._heights.keys() >= set(names):
            return None
        start = sum(self._heights[each] for each in names[:-1])
        return Place(parameter, rows=(start, start + self._heights[name]))

    def _parameter(self, name: str) -> str | None:
        """Return the parameter of a name, which may lack the prefix of the model, or have it in addition."""
        names = (name, f"{self._prefix}.{name}", name.removeprefix(f"{self._prefix}."))
        return next((name for name in names if name in self._state), None)

    def _part(self, name: str, converter: Any, source: str, parameter: str) -> Place | None:  # noqa: ANN401
        """Return the place of a tensor with a number in a stack; None beyond its end."""
        steps = [(type(step), getattr(step, "dim", None)) for step in converter.operations]
        number = re.search(source.replace("*.", r"(\d+)\."), name)
        if steps not in _STACKS or number is None:
            raise SourceError(f"transformers converts {name} to {parameter} in a way that infrs cannot check")
        sources = converter.source_patterns
        place = Place(parameter, int(number[1]), sources.index(source), len(sources))
        return place if place.index in range(len(self._state[parameter])) else None
