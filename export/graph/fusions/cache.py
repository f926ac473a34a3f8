"""The key/value cache as the traced model sees it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .ops import AttentionAttributes, group_query_attention


class FusedCache:
    """The past keys and values of every layer, passed as `cache`. Attention calls its `attend`.

    `presents` collects the updated tensors, key before value, layer by layer. `shared` holds the new keys and values
    that later layers of a type share (gemma4). Such a layer writes them to its own past too, which costs memory.
    """

    def __init__(self, past: Sequence[tuple[Tensor, Tensor]], seqlens_k: Tensor, total_sequence_length: Tensor) -> None:
        self._past = past
        self._lengths = (seqlens_k, total_sequence_length)
        self.presents: list[Tensor] = []
        self.shared: dict[str, list[Tensor]] = {}

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
        """Write the new keys and values of `layer` and attend over all of them.

        Raises ValueError if layers attend out of order.
        """
        if len(self.presents) != 2 * layer:
            raise ValueError(f"layer {layer} attends out of order")
        output, *present = group_query_attention(qkv, self._past[layer], self._lengths, rotary, attributes, sinks=sinks)
        self.presents += present
        return output
