"""The state that each layer of a model keeps for a sequence between runs, as a manifest describes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infrs.native.options import StoredDtype

StateKind = Literal["kv", "recurrent", "conv"]
StateDtype = Literal["float32", "float16"]
DTYPE_BYTES: dict[StoredDtype, int] = {"float32": 4, "float16": 2, "int8": 1}
SCALE_BYTES = 4  # of each key and value in int8

_CONFIG = ConfigDict(frozen=True, extra="forbid", strict=True)
_Size = Annotated[int, Field(ge=1, le=1 << 20)]


class LayerState(BaseModel):
    """A state that a layer keeps for one sequence. A layer has one or several.

    kind: `kv`, a key and a value for each position; `recurrent`, one array that each token updates; `conv`, the last
    inputs of a convolution.
    shape: of one key or value, [num_kv_heads, head_dim], for `kv`; otherwise of the whole state.
    dtype: as infrs's kernels store the numbers; float32 for `recurrent` and `conv`. ONNX Runtime's kernels store
    float32, whatever the manifest says.
    truncatable: a sequence can continue from any earlier position. snapshottable: a copy of the state can be kept.
    """

    model_config = _CONFIG

    kind: StateKind
    shape: tuple[_Size, ...] = Field(min_length=1, max_length=4, strict=False)
    dtype: StateDtype
    truncatable: bool
    snapshottable: bool


@dataclass(frozen=True, slots=True)
class StateSize:
    """The size of the states of one sequence in bytes. per_token: of keys and values. fixed: of all other states."""

    per_token: int
    fixed: int = 0

    def of_row(self, capacity: int) -> int:
        """Return the bytes of a row of `capacity` tokens."""
        return self.fixed + capacity * self.per_token


def kv_bytes(head_dim: int, dtype: StoredDtype) -> int:
    """Return the bytes of one key or value of one head, with its scale in int8."""
    return head_dim * DTYPE_BYTES[dtype] + (SCALE_BYTES if dtype == "int8" else 0)


def size_of(states: Iterable[LayerState], dtype: StoredDtype) -> StateSize:
    """Return the size of `states`, if the numbers of keys and values are stored as `dtype`."""
    per_token = fixed = 0
    for state in states:
        if state.kind == "kv":
            num_kv_heads, head_dim = state.shape
            per_token += 2 * num_kv_heads * kv_bytes(head_dim, dtype)
        else:
            fixed += prod(state.shape) * DTYPE_BYTES[state.dtype]
    return StateSize(per_token, fixed)


def kv_dtype(states: Iterable[LayerState]) -> StateDtype:
    """Return the dtype of keys and values: float16 if all have it, float32 otherwise."""
    return "float16" if {state.dtype for state in states if state.kind == "kv"} == {"float16"} else "float32"


def stored(states: Iterable[LayerState], dtype: StateDtype) -> tuple[LayerState, ...]:
    """Return the states with keys and values in `dtype`."""
    return tuple(state.model_copy(update={"dtype": dtype}) if state.kind == "kv" else state for state in states)


def fixed_state(kind: Literal["recurrent", "conv"], shape: tuple[int, ...]) -> LayerState:
    """Return a state of a fixed size. A sequence can continue only from where it was copied."""
    return LayerState(kind=kind, shape=shape, dtype="float32", truncatable=False, snapshottable=True)


def kv_states(shapes: Iterable[tuple[int, int]], dtype: StateDtype) -> tuple[LayerState, ...]:
    """Return the states of layers that keep keys and values of the shapes (num_kv_heads, head_dim)."""
    return tuple(
        LayerState(kind="kv", shape=shape, dtype=dtype, truncatable=True, snapshottable=True) for shape in shapes
    )


class KVGeometry(BaseModel):
    """The shape of keys and values in a model with equal layers."""

    model_config = _CONFIG

    num_layers: int = Field(ge=1, le=1024)
    num_kv_heads: int = Field(ge=1, le=1024)
    head_dim: int = Field(ge=1, le=4096)

    def states(self, dtype: StateDtype) -> tuple[LayerState, ...]:
        """Return the state of each layer."""
        return kv_states([(self.num_kv_heads, self.head_dim)] * self.num_layers, dtype)


class _OldManifest(BaseModel):
    """The fields of older manifests that were replaced. An error of one has its full path, such as `kv.head_dim`."""

    kv: KVGeometry


def upgrade_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a chat model's manifest, with those that older exporters did not write.

    Before `states`, a manifest had `kv`, the geometry of layers that are all alike. Keys and values had 16 bits in a
    fused graph with weights in blocks. Only that graph consisted of operators that compute each token by itself
    with infrs's kernels. No exporter wrote a fused graph in which one row changes the result of another.
    """
    if "states" in manifest or "kv" not in manifest:
        return manifest
    fields = dict(manifest)
    geometry = _OldManifest.model_validate({"kv": fields.pop("kv")}).kv
    recipe = fields.get("recipe")
    is_fused = fields.get("graph") == "fused"
    in_blocks = is_fused and isinstance(recipe, dict) and recipe.get("name") == "blocks"
    fields["states"] = [state.model_dump() for state in geometry.states("float16" if in_blocks else "float32")]
    return fields | {"batch_invariant": is_fused, "chunk_invariant": in_blocks}
