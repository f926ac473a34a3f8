"""The result of a load: as a document and as a table."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from infrs.bench.client import Sample, Target
from infrs.bench.run import Level
from infrs.bench.stats import Figures, Ratio, ratio

# (heading, figure, factor to the unit shown, whether more is better)
COLUMNS = (
    ("req/s", "requests_per_s", 1, True),
    ("out tok/s", "output_per_s", 1, True),
    ("in tok/s", "input_per_s", 1, True),
    ("goodput", "goodput", 1, True),
    ("first p50 ms", "first.p50", 1000, False),
    ("p90", "first.p90", 1000, False),
    ("p99", "first.p99", 1000, False),
    ("token p50 ms", "per_token.p50", 1000, False),
    ("gap p99 ms", "gap.p99", 1000, False),
    ("total p50 s", "total.p50", 1, False),
    ("p90", "total.p90", 1, False),
    ("p99", "total.p99", 1, False),
)


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One level: for each target by name, the figures of its rounds, and the samples of the last round."""

    level: Level
    rounds: Mapping[str, Sequence[Figures]]
    samples: Mapping[str, Sequence[Sample]]

    def values(self, name: str, figure: str) -> list[float]:
        """A figure of a target, round by round."""
        return [figures.value(figure) for figures in self.rounds[name]]

    def ratio(self, name: str, base: str, figure: str, *, more_is_better: bool) -> Ratio | None:
        """How many times better a target is than another."""
        return ratio(self.values(name, figure), self.values(base, figure), more_is_better=more_is_better)


def machine() -> dict[str, Any]:
    """What was measured on: processor, cores this process may use, memory in GiB, system, one-minute load average."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return {
        "processor": names[0] if names else platform.processor(),
        "instructions": [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load_average": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def document(targets: Sequence[Target], results: Sequence[LevelResult], options: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, for JSON."""
    return {
        "machine": machine(),
        "options": dict(options),
        "targets": [
            {"name": target.name, "url": target.endpoint.url, "model": target.model, "fields": target.fields}
            for target in targets
        ],
        "levels": [
            {
                "level": asdict(result.level),
                "rounds": {name: [asdict(figures) for figures in rounds] for name, rounds in result.rounds.items()},
                "ratios": {target.name: _ratios(result, target.name, targets[0].name) for target in targets[1:]},
                "samples_of_last_round": {
                    name: [asdict(sample) for sample in samples] for name, samples in result.samples.items()
                },
            }
            for result in results
        ],
    }


def _ratios(result: LevelResult, name: str, base: str) -> dict[str, dict[str, float] | None]:
    found = {figure: result.ratio(base, name, figure, more_is_better=more) for _, figure, _, more in COLUMNS}
    return {figure: None if value is None else asdict(value) for figure, value in found.items()}


def table(targets: Sequence[Target], results: Sequence[LevelResult]) -> Table:
    """Medians of the rounds; under each other server, how many times better the first one is and its spread."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("load", "server", "errors"):
        grid.add_column(heading, no_wrap=heading != "server")
    for heading, *_ in COLUMNS:
        grid.add_column(heading, justify="right")
    for result in results:
        for place, target in enumerate(targets):
            errors = sum(figures.errors for figures in result.rounds[target.name])
            shown = [
                number(statistics.median(result.values(target.name, figure)) * factor)
                for _, figure, factor, _ in COLUMNS
            ]
            grid.add_row("" if place else result.level.title, target.name, str(errors), *shown)
            if place:
                base = targets[0].name
                ratios = [
                    result.ratio(base, target.name, figure, more_is_better=more) for _, figure, _, more in COLUMNS
                ]
                grid.add_row("", f"{base} is better by", "", *(shown_ratio(value) for value in ratios), style="dim")
    return grid


def number(value: float) -> str:
    """Three significant digits, in full; a dash for none."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def shown_ratio(value: Ratio | None) -> str:
    """A ratio with its spread."""
    return "-" if value is None else f"{value.median:.2f}x ({value.low:.2f}-{value.high:.2f})"
