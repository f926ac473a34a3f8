"""The graph signature of bundles: names, shapes and dtypes, for the exporter and the runner.

The *fused* graph (`Manifest.graph == "fused"`), B rows, S new tokens a row (S > 1 only with B = 1):

- `input_ids` int64 [B, S]
- `seqlens_k` int32 [B]: the row's length after this run, minus one
- `total_sequence_length` int32 []: the largest such length
- `logits_indices` int64 [N]: positions to score, as indices into the flattened [B * S] tokens
- for each state i of the manifest, in its order (a layer has one or several states):
  - `kv`: `past_key_values.<i>.key|value` float32 [B, num_kv_heads, capacity, head_dim]
  - `recurrent` or `conv`: `past_key_values.<i>.state` float32 [B, *shape], zeros before the first token
- `active_rows` float32 [B], only in a graph with recurrent or conv states: 1 for a row with tokens; 0 for an idle row,
  in which the states of these kinds keep their bits
- `logits` float32 [N, vocab_size]
- `present.<i>.key|value|state`: the shape of its past; bound to the same memory, so states are updated in place

Positions follow from `seqlens_k`. The *plain* graph is that of Optimum without changes: `input_ids`, `attention_mask`
and, if the architecture has them, `position_ids`, int64 [B, S]; past [B, num_kv_heads, P, head_dim];
present [B, num_kv_heads, P + S, head_dim] in new memory; `logits` for every position [B, S, vocab_size].

The graph of an embedding model (`EmbeddingManifest`): `input_ids` int64 [B, S], texts of the same number of tokens, to
`embedding` float32 [B, dimensions], pooled and, if the model normalises, of length 1.

The graph of a classifier (`ClassifierManifest`): `input_ids` and, if the model distinguishes the two texts of a pair,
`token_type_ids` (0 for the first text, 1 for the second), both int64 [B, S], to `logits` float32 [B, labels].
"""

from __future__ import annotations

from collections.abc import Iterable

from infrs.bundle.states import LayerState

INPUT_IDS = "input_ids"
SEQLENS_K = "seqlens_k"
TOTAL_SEQUENCE_LENGTH = "total_sequence_length"
LOGITS_INDICES = "logits_indices"
ACTIVE_ROWS = "active_rows"
ATTENTION_MASK = "attention_mask"
POSITION_IDS = "position_ids"
TOKEN_TYPE_IDS = "token_type_ids"  # noqa: S105  # no password
LOGITS = "logits"
EMBEDDING = "embedding"


def past_names(states: Iterable[LayerState]) -> list[str]:
    """Return the names of the past inputs, state by state, key before value."""
    return [f"past_key_values.{part}" for part in _parts(states)]


def present_names(states: Iterable[LayerState]) -> list[str]:
    """Return the names of the present outputs in the order of `past_names`."""
    return [f"present.{part}" for part in _parts(states)]


def _parts(states: Iterable[LayerState]) -> list[str]:
    return [
        f"{index}.{part}"
        for index, state in enumerate(states)
        for part in (("key", "value") if state.kind == "kv" else ("state",))
    ]
