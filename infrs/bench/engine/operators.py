"""Read a session's time by kind of operator from ONNX Runtime's profile."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

Event = dict[str, Any]

_PRODUCTS = ("MatMul", "Gemm")  # MatMulNBits, MatMulIntegerToFloat, DynamicQuantizeMatMul and the like contain them


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One kind of operator in one run, on average."""

    kind: str
    nodes: float
    seconds: float
    multiply_adds: float  # of matrix products with weights; 0 for others


class Profile:
    """A session's profile. Profiled runs are slower: take shares from it, and times from a plain session."""

    def __init__(self, path: Path) -> None:
        events: list[Event] = orjson.loads(path.read_bytes())
        runs = sorted((event for event in events if event["name"] == "model_run"), key=_start)
        starts = [_start(run) for run in runs]
        self._nodes: list[list[Event]] = [[] for _ in runs]
        for event in events:
            # Nodes of the last run come after the last start; events before the first start belong to no run.
            if event.get("cat") == "Node" and (place := bisect_right(starts, _start(event)) - 1) >= 0:
                self._nodes[place].append(event)

    def operators(self, runs: tuple[int, int]) -> list[OperatorTime]:
        """Return the time of each kind of operator, averaged over a half-open range of runs, the slowest first."""
        first, end = runs
        nodes: defaultdict[str, int] = defaultdict(int)
        seconds: defaultdict[str, float] = defaultdict(float)
        multiply_adds: defaultdict[str, float] = defaultdict(float)
        for run in self._nodes[first:end]:
            for event in run:
                kind = event["args"]["op_name"]
                nodes[kind] += 1
                seconds[kind] += event["dur"] / 1e6
                multiply_adds[kind] += _multiply_adds(event)
        count = max(1, end - first)
        found = [
            OperatorTime(kind, nodes[kind] / count, seconds[kind] / count, multiply_adds[kind] / count)
            for kind in nodes
        ]
        return sorted(found, key=lambda operator: -operator.seconds)


def _start(event: Event) -> int:
    return int(event["ts"])


def _multiply_adds(event: Event) -> float:
    """Return the multiply-adds of a product: each input value is multiplied once per output column."""
    args = event["args"]
    if not any(product in args["op_name"] for product in _PRODUCTS):
        return 0.0
    return math.prod(_shape(args["input_type_shape"])) * float(_shape(args["output_type_shape"])[-1])


def _shape(typed: Sequence[dict[str, list[int]]]) -> list[int]:
    """Return the shape of a node's first tensor."""
    return next(iter(typed[0].values()))
