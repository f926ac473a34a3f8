"""GroupQueryAttention on the same rows, by infrs's kernel and by a float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from kernel_graphs import FLOAT, INT32, Floats, graph_of, opened_with_own

from infrs.bundle.states import kv_bytes
from infrs.native.options import AUTO, KernelOptions, StoredDtype

POSITIONS = 1024  # of the rotary tables


@dataclass(frozen=True)
class Form:
    """The sizes and attributes of an attention node."""

    heads: int = 3
    kv_heads: int = 1
    dim: int = 8
    rotary: int = 0  # rotated pairs; at most dim / 2
    interleaved: bool = False
    softcap: float = 0.0
    window: int = 0  # 0: all
    scale: float = 0.0  # 0: 1 / sqrt(dim)
    packed: bool = True
    sinks: bool = False

    @property
    def widths(self) -> tuple[int, int, int]:
        return self.heads * self.dim, self.kv_heads * self.dim, self.kv_heads * self.dim


def angles(form: Form) -> npt.NDArray[np.float64]:
    return np.outer(np.arange(POSITIONS), 50.0 ** -(np.arange(form.rotary) / max(form.rotary, 1)))


def sinks_of(form: Form) -> Floats:
    """Return the sinks of the heads: scores below, among and above those of keys."""
    return np.linspace(-20, 8, form.heads).astype(np.float32)


def model(form: Form, **attributes: object) -> onnx.ModelProto:
    """Return a graph of one node. `attributes` extend or replace those of the form."""
    cache_shape = ["rows", form.kv_heads, "capacity", form.dim]
    query, key, value = form.widths
    inputs: dict[str, Any] = (
        {"query": (FLOAT, ["rows", "tokens", query + key + value]), "key": None, "value": None}
        if form.packed
        else {"query": (FLOAT, ["rows", "tokens", query])}
        | {name: (FLOAT, ["rows", "tokens", key]) for name in ("key", "value")}
    )
    inputs |= dict.fromkeys(("past_key", "past_value"), (FLOAT, cache_shape))
    inputs |= {"lengths": (INT32, ["rows"]), "total": (INT32, [])}
    if form.rotary:
        table = angles(form)
        inputs |= {"cos": np.cos(table).astype(np.float32), "sin": np.sin(table).astype(np.float32)}
    if form.sinks:
        inputs |= {name: inputs.get(name) for name in ("cos", "sin", "position_ids", "bias")}
        inputs["sinks"] = sinks_of(form)
    own = {
        "num_heads": form.heads,
        "kv_num_heads": form.kv_heads,
        "do_rotary": int(form.rotary > 0),
        "rotary_interleaved": int(form.interleaved),
        "softcap": form.softcap,
        "local_window_size": form.window or -1,
        "scale": form.scale,
    }
    outputs = {"output": ["rows", "tokens", query], "present_key": cache_shape, "present_value": cache_shape}
    return graph_of("GroupQueryAttention", inputs, outputs, own | attributes)


@cache
def session(
    form: Form, threads: int = 1, kernels: KernelOptions = AUTO, *, kv_dtype: StoredDtype = "float32"
) -> ort.InferenceSession:
    return opened_with_own(model(form), threads, kernels, kv_dtype=kv_dtype)


def num_slots(capacity: int, dim: int, kv_dtype: StoredDtype) -> int:
    """Return for how many positions of float32 there is room in the memory of a row and head."""
    return -(-capacity * kv_bytes(dim, kv_dtype) // (4 * dim))


def drawn(form: Form, tokens: int, seed: int) -> Floats:
    """Return random queries, keys and values of a row's tokens: [tokens, sum of widths]."""
    return np.random.default_rng(seed).standard_normal((tokens, sum(form.widths))).astype(np.float32)


class Rows:
    """Rows of keys and values that a session extends, stored in a dtype."""

    def __init__(
        self,
        form: Form,
        rows: int,
        capacity: int,
        *,
        threads: int = 1,
        in_place: bool = True,
        kernels: KernelOptions = AUTO,
        kv_dtype: StoredDtype = "float32",
    ) -> None:
        self.form, self.session, self.in_place = form, session(form, threads, kernels, kv_dtype=kv_dtype), in_place
        rng = np.random.default_rng(0)
        shape = (rows, form.kv_heads, num_slots(capacity, form.dim, kv_dtype), form.dim)  # initially arbitrary
        self.kept = [rng.standard_normal(shape).astype(np.float32) * 1e6 for _ in range(2)]
        for array in self.kept:
            array[:, :, ::3] = np.nan

    def run(self, first: int, new: Floats, starts: Sequence[int]) -> Floats:
        """Append `new` [B, S, ...] to the B rows from `first` on, at positions `starts`. Return [B, S, heads * dim]."""
        rows, tokens, _ = new.shape
        ends = np.array(starts, np.int32) + tokens
        feeds = {"lengths": ends - 1, "total": np.array(ends.max(), np.int32)}
        if self.form.packed:
            feeds["query"] = np.ascontiguousarray(new)
        else:
            parts = np.split(new, np.cumsum(self.form.widths)[:2], axis=-1)
            feeds |= dict(zip(("query", "key", "value"), map(np.ascontiguousarray, parts), strict=True))
        views = [array[first : first + rows] for array in self.kept]
        if not self.in_place:
            feeds |= dict(zip(("past_key", "past_value"), views, strict=True))
            output, *present = self.session.run(None, feeds)
            for view, array in zip(views, present, strict=True):
                view[:] = array
            return np.asarray(output)
        binding = self.session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        output = np.empty((rows, tokens, self.form.widths[0]), np.float32)
        bound = [("past_key", "present_key", views[0]), ("past_value", "present_value", views[1])]
        for past, present, view in bound:
            binding.bind_input(past, "cpu", 0, np.float32, view.shape, view.ctypes.data)
            binding.bind_output(present, "cpu", 0, np.float32, view.shape, view.ctypes.data)
        binding.bind_output("output", "cpu", 0, np.float32, output.shape, output.ctypes.data)
        self.session.run_with_iobinding(binding)
        return output


def whole(
    form: Form, new: Floats, *, threads: int = 1, kernels: KernelOptions = AUTO, kv_dtype: StoredDtype = "float32"
) -> Floats:
    """Compute a row's tokens in one run and return the outputs [tokens, heads * dim]."""
    capacity = -(-len(new) // 8) * 8
    return Rows(form, 1, capacity, threads=threads, kernels=kernels, kv_dtype=kv_dtype).run(0, new[None], [0])[0]


def _rotated(form: Form, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotate pairs of features of x [tokens, heads, dim] as complex numbers, by the angles of their positions."""
    if not form.rotary:
        return x
    pairs = x[..., : 2 * form.rotary]
    pairs = pairs.reshape(*x.shape[:2], *((-1, 2) if form.interleaved else (2, -1)))
    pairs = pairs if form.interleaved else pairs.swapaxes(-1, -2)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles(form)[: len(x), None])
    both = np.stack([turned.real, turned.imag], axis=-1 if form.interleaved else -2)
    return np.concatenate([both.reshape(*x.shape[:2], -1), x[..., 2 * form.rotary :]], axis=-1)


def in_8_bits(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round keys or values [tokens, heads, dim] as int8 does."""
    single = x.astype(np.float32)
    scales = np.abs(single).max(axis=-1, keepdims=True) / np.float32(127)
    return (np.rint(single / scales) * scales).astype(np.float64)


def reference(
    form: Form, new: Floats, stored: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] = np.asarray
) -> npt.NDArray[np.float64]:
    """Compute the operator in float64 for a whole row. Return [tokens, heads * dim]. stored: rounds keys and values."""
    tokens = len(new)
    parts = np.split(new.astype(np.float64), np.cumsum(form.widths)[:2], axis=-1)
    query, key, value = (part.reshape(tokens, -1, form.dim) for part in parts)
    query, key, value = _rotated(form, query), stored(_rotated(form, key)), stored(value)
    distance = np.arange(tokens)[:, None] - np.arange(tokens)
    seen = (distance >= 0) & (distance < (form.window or tokens))
    outputs = []
    for head in range(form.heads):
        kv_head = head // (form.heads // form.kv_heads)
        scores = query[:, head] @ key[:, kv_head].T * (form.scale or form.dim**-0.5)
        if form.softcap:
            scores = form.softcap * np.tanh(scores / form.softcap)
        scores = np.where(seen, scores, -np.inf)
        top = scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(axis=-1, keepdims=True)
        if form.sinks:
            total += np.exp(sinks_of(form)[head].astype(np.float64) - top)
        outputs.append(weights / total @ value[:, kv_head])
    return np.concatenate(outputs, axis=-1)
