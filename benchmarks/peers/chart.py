"""The bar chart that leads the page: infrs against llama.cpp on the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.workloads import Workload
from infrs.bench import plots
from infrs.bench.report import title
from infrs.bench.stats import ratio


def draw(path: Path, run: Mapping[str, Any], workloads: Sequence[Workload]) -> None:
    """Write a PNG with a bar for each workload and pair, and the range of its rounds. Raises PlotError."""
    plots.require()
    from matplotlib.figure import Figure  # noqa: PLC0415

    pairs = [tuple(pair) for pair in run["pairs"]]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(pairs)
    for place, (ours, theirs) in enumerate(pairs):
        ratios = [
            (number, found)
            for number, workload in enumerate(workloads)
            if (values := run["values"].get(workload.title))
            and (found := ratio(values[ours], values[theirs], more_is_better=workload.more_is_better))
        ]
        at = [number + (place - (len(pairs) - 1) / 2) * width for number, _ in ratios]
        bars = axes.bar(
            at,
            [found.median for _, found in ratios],
            width * 0.92,
            yerr=(
                [max(0.0, found.median - found.low) for _, found in ratios],
                [max(0.0, found.high - found.median) for _, found in ratios],
            ),
            capsize=3,
            label=f"{ours} : {theirs}",
        )
        axes.bar_label(bars, fmt="%.1fx", padding=2, fontsize=8)
    axes.axhline(1, color="black", lw=0.8)
    axes.set_xticks(
        range(len(workloads)), [workload.title.replace(", ", ",\n", 1) for workload in workloads], fontsize=8
    )
    axes.set(ylabel="times llama.cpp's server", ylim=(0, None))
    axes.set_title(title(["SmolLM2-135M, nothing drafted"], run["machine"]), fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
