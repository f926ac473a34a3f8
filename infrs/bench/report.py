"""Report the result of a load as a document and as a table."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from infrs.bench.client import Sample, Target
from infrs.bench.run import Level
from infrs.bench.stats import Figures, Ratio, ratio

# (heading, figure, factor to the unit shown, whether more is better)
FIGURES = (
    ("requests/s", "requests_per_s", 1, True),
    ("goodput, requests/s", "goodput", 1, True),
    ("output tokens/s", "output_per_s", 1, True),
    ("input tokens/s", "input_per_s", 1, True),
    ("first token p50, ms", "first.p50", 1000, False),
    ("first token p90, ms", "first.p90", 1000, False),
    ("first token p99, ms", "first.p99", 1000, False),
    ("between tokens p50, ms", "per_token.p50", 1000, False),
    ("between tokens p90, ms", "per_token.p90", 1000, False),
    ("between tokens p99, ms", "per_token.p99", 1000, False),
    ("longest gap, ms", "gap.max", 1000, False),
    ("whole answer p50, s", "total.p50", 1, False),
    ("whole answer p90, s", "total.p90", 1, False),
    ("whole answer p99, s", "total.p99", 1, False),
)

_QUIET_LOAD = 0.5  # processes that run or wait, over the last minute


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One level: for each target by name, the figures of its rounds, and the samples of the last round."""

    level: Level
    rounds: Mapping[str, Sequence[Figures]]
    samples: Mapping[str, Sequence[Sample]]

    def values(self, name: str, figure: str) -> list[float]:
        """Return a figure of a target for each round."""
        return [figures.value(figure) for figures in self.rounds[name]]

    def ratio(self, name: str, base: str, figure: str, *, more_is_better: bool) -> Ratio | None:
        """Return how many times better a target is than another; None if a figure is missing."""
        return ratio(self.values(name, figure), self.values(base, figure), more_is_better=more_is_better)


def machine() -> dict[str, Any]:
    """Return a description of the machine: processor, usable cores, memory in GiB, system, one-minute load average."""
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


def load_warning(load_average: float) -> str:
    """Return a warning for a machine that is busy before the measurement; empty for a quiet one."""
    if load_average <= _QUIET_LOAD:
        return ""
    return (
        f"warning: the load average of this machine is {load_average:.1f}, so the figures will be noisy; stop other "
        f"work and wait until it is below {_QUIET_LOAD}"
    )


def title(models: Iterable[str], facts: Mapping[str, Any]) -> str:
    """Return the title of a plot: models, machine and day."""
    names = ", ".join(dict.fromkeys(models))
    return f"{names}, {facts['processor']}, {facts['cores']} cores, {facts['date'][:10]}"


def document(targets: Sequence[Target], results: Sequence[LevelResult], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all measurements for JSON."""
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
    found = {figure: result.ratio(base, name, figure, more_is_better=more) for _, figure, _, more in FIGURES}
    return {figure: None if value is None else asdict(value) for figure, value in found.items()}


def table(targets: Sequence[Target], result: LevelResult) -> Table:
    """Return a table of one level: medians of the rounds, and the ratio of the first server to each other one."""
    base = targets[0].name
    grid = Table(title=result.level.title, title_justify="left", box=None, pad_edge=False)
    grid.add_column("")
    grid.add_column(base, justify="right")
    for target in targets[1:]:
        grid.add_column(target.name, justify="right")
        grid.add_column(f"{base} is better by", justify="right", style="dim")
    for heading, figure, factor, more_is_better in FIGURES:
        cells = [heading, number(statistics.median(result.values(base, figure)) * factor)]
        for target in targets[1:]:
            cells.append(number(statistics.median(result.values(target.name, figure)) * factor))
            cells.append(shown_ratio(result.ratio(base, target.name, figure, more_is_better=more_is_better)))
        grid.add_row(*cells)
    counts = ["pieces" if any(s.counted for s in result.samples[target.name]) else "usage" for target in targets]
    if "pieces" in counts:  # of text, if the server sends no token counts
        grid.add_row("output tokens by", counts[0], *(cell for count in counts[1:] for cell in (count, "")))
    errors = [sum(figures.errors for figures in result.rounds[target.name]) for target in targets]
    grid.add_row("errors, of all rounds", str(errors[0]), *(cell for count in errors[1:] for cell in (str(count), "")))
    return grid


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent; a dash for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def shown_ratio(value: Ratio | None) -> str:
    """Return a ratio with its spread as text."""
    return "-" if value is None else f"{value.median:.2f}x ({value.low:.2f}-{value.high:.2f})"
