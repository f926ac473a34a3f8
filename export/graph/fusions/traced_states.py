"""The states of all layers as the traced model sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from infrs.bundle.states import LayerState, StateKind

from .ops import AttentionAttributes, group_query_attention
from .recurrent.ops import Recurrence, linear_attention, short_convolution

# The state of each layer and kind, in the order of the graph. A layer has at most one state of a kind.
States = Mapping[tuple[int, StateKind], LayerState]


class FusedCache:
    """The past states of all layers, passed as `cache`. Layers call `attend`, `convolve` and `recur`.

    past: key and value, or one tensor, for each of `states`. `shared` holds the new keys and values that later layers
    of a type share (gemma4). Such a layer writes them to its own past too, which costs memory.
    """

    is_compileable = False

    def __init__(
        self, states: States, past: Sequence[tuple[Tensor, ...]], lengths: tuple[Tensor, Tensor], active: Tensor | None
    ) -> None:
        self._past = dict(zip(states, past, strict=True))
        self._present: dict[tuple[int, StateKind], Sequence[Tensor]] = {}
        self._lengths = lengths  # seqlens_k, total_sequence_length
        self._active = None if active is None else active[:, None, None]
        self.shared: dict[str, list[Tensor]] = {}

    @property
    def presents(self) -> list[Tensor]:
        """Return the updated tensors in the order of the states, key before value.

        Raises ValueError if a layer did not update its state.
        """
        if missing := self._past.keys() - self._present.keys():
            layer, kind = min(missing)
            raise ValueError(f"layer {layer} does not use its {kind} state")
        return [tensor for place in self._past for tensor in self._present[place]]

    @property
    def active(self) -> Tensor:
        """Return `active_rows` as [B, 1, 1]. Raises ValueError if the graph has no such input."""
        if self._active is None:
            raise ValueError("no states of a fixed size, so no active_rows")
        return self._active

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0. The graph takes positions from `seqlens_k`, so it uses nothing that the model derives from this."""
        return 0

    def attend(
        self,
        layer: int,
        qkv: Sequence[Tensor],
        rotary: tuple[Tensor, Tensor] | None,
        attributes: AttentionAttributes,
        *,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Write the new keys and values of `layer` and attend over all of them."""
        key, value = self._past[layer, "kv"]
        output, *present = group_query_attention(qkv, (key, value), self._lengths, rotary, attributes, sinks=sinks)
        self._update(layer, "kv", present)
        return output

    def convolve(self, layer: int, x: Tensor, conv: nn.Conv1d, activation: str) -> Tensor:
        """Convolve the channels of x [B, S, C]; the layer keeps the last inputs. activation: `silu` or `none`."""
        [past] = self._past[layer, "conv"]
        y, present = short_convolution(x, conv.weight, conv.bias, past, self.active, activation)
        self._update(layer, "conv", [present])
        return y

    def recur(
        self,
        layer: int,
        qkv: tuple[Tensor, Tensor, Tensor],
        decay: Tensor,
        beta: Tensor | None,
        recurrence: Recurrence,
    ) -> Tensor:
        """Update the matrices of `layer` and read them. An idle row needs a decay of 0, and a beta or value of 0."""
        [past] = self._past[layer, "recurrent"]
        y, present = linear_attention(qkv, decay, beta, past, recurrence)
        self._update(layer, "recurrent", [present])
        return y

    def _update(self, layer: int, kind: StateKind, present: Sequence[Tensor]) -> None:
        """Record the new tensors of a state. Raises ValueError if the layer has done so before."""
        if (layer, kind) in self._present:
            raise ValueError(f"layer {layer} updates its {kind} state twice")
        self._present[layer, kind] = present
