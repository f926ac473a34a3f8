"""The profile of a bundle, as tables and as a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from infrs.bench.engine.operators import OperatorTime
from infrs.bench.engine.profile import Result
from infrs.bench.report import machine

_NUM_KINDS = 7


def tables(result: Result) -> list[Table]:
    """Return tables: steps and their parts in ms with the limit; operators as shares of the session's time."""
    return [_steps(result), _operators(result)]


def document(result: Result) -> dict[str, Any]:
    """Return all measurements for JSON. Seconds, bytes and multiply-adds a second."""
    return {
        "machine": machine() | asdict(result.machine),
        "model": result.manifest.source.model_id,
        "dtype": result.manifest.dtype,
        "peak_multiply_adds": result.peak,
        "prefill_operators": [asdict(operator) for operator in result.prefill],
        "cases": [
            {
                "times": asdict(case.times),
                "operators": [asdict(operator) for operator in case.operators],
                "bound": asdict(case.bound),
            }
            for case in result.cases
        ],
    }


def _steps(result: Result) -> Table:
    table = Table(
        title=f"{result.manifest.source.model_id}, {result.manifest.dtype}: a decode step, ms. Machine: "
        f"{result.machine.bandwidth / 1e9:.1f} GB/s, {result.machine.multiply_adds / 1e9:.0f} G float32 "
        "multiply-adds/s; "
        f"the bundle's products on a prompt {result.peak / 1e9:.0f} G/s",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    headings = "rows context tok/s step session binding sampling detok. scheduling rest | read compute step/limit"
    for heading in headings.split():
        table.add_column("" if heading == "|" else heading, justify="right")
    for case in result.cases:
        times, bound = case.times, case.bound
        parts = (times.step, times.session, times.binding, times.sampling, times.detokenising, times.scheduling)
        table.add_row(
            str(times.rows),
            str(times.context),
            f"{times.tokens_per_s:.0f}",
            *(f"{1000 * seconds:.2f}" for seconds in (*parts, times.rest)),
            "",
            *(f"{1000 * seconds:.2f}" for seconds in (bound.reading, bound.computing)),
            f"{times.step / bound.seconds:.2f}x",
        )
    return table


def _operators(result: Result) -> Table:
    kinds = _largest(result)
    table = Table(title="Operators, ms in a plain session (by their shares of a profiled one)", title_justify="left")
    table.box = None
    for heading in ("rows", "context", *kinds, "others"):
        table.add_column(heading, justify="right")
    for case in result.cases:
        whole = sum(operator.seconds for operator in case.operators)
        share = {operator.kind: operator.seconds / whole for operator in case.operators} if whole else {}
        shown = [share.get(kind, 0.0) for kind in kinds]
        scaled = (1000 * case.times.session * part for part in (*shown, 1 - sum(shown)))
        table.add_row(str(case.times.rows), str(case.times.context), *(f"{value:.2f}" for value in scaled))
    return table


def _largest(result: Result) -> list[str]:
    """Return the kinds of operators with the most time over all cases."""
    seconds: dict[str, float] = {}
    for operators in (case.operators for case in result.cases):
        _add(seconds, operators)
    return sorted(seconds, key=lambda kind: -seconds[kind])[:_NUM_KINDS]


def _add(seconds: dict[str, float], operators: Sequence[OperatorTime]) -> None:
    for operator in operators:
        seconds[operator.kind] = seconds.get(operator.kind, 0.0) + operator.seconds
