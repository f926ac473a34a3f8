"""Draw PNG plots. matplotlib comes with the extra `bench`; it is imported only for a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from infrs.bench.client import Sample, Target
from infrs.bench.report import LevelResult, machine, title
from infrs.errors import InfrsError
from infrs.extras import install_command


class PlotError(InfrsError):
    """matplotlib is missing, so no plot can be drawn."""

    code = "no_plots"
    exit_code = 2


def require() -> None:
    """Raise PlotError unless matplotlib can be imported. Call it before a long run."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
    except ImportError as error:
        raise PlotError(f"plots need matplotlib; run: {install_command('bench')}") from error
    mpl.use("Agg")


def draw(folder: Path, targets: Sequence[Target], results: Sequence[LevelResult]) -> list[Path]:
    """Write `throughput.png` and `gaps.png` into `folder` and return their paths. Raises PlotError."""
    require()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "throughput.png", folder / "gaps.png"]
    heading = title((target.model for target in targets), machine())
    _throughput(paths[0], targets, results, heading)
    last = results[-1].samples
    streams = {name: max(samples, key=lambda sample: len(sample.arrivals)) for name, samples in last.items()}
    draw_gaps(paths[1], streams, f"The longest stream, {results[-1].level.title}\n{heading}")
    return paths


def _throughput(path: Path, targets: Sequence[Target], results: Sequence[LevelResult], heading: str) -> None:
    """Plot output tokens a second against the median latency, with a point for each level."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    figure.suptitle(heading, fontsize=10)
    left, right = figure.subplots(1, 2)
    for axes, latency, label in ((left, "per_token.p50", "time between tokens"), (right, "first.p50", "first token")):
        for target in targets:
            points = [
                tuple(statistics.median(result.values(target.name, name)) for name in ("output_per_s", latency))
                for result in results
            ]
            axes.plot([x for x, _ in points], [1000 * y for _, y in points], marker="o", label=target.name)
            for result, (x, y) in zip(results, points, strict=True):
                axes.annotate(result.level.title, (x, 1000 * y), xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.margins(0.15)
        axes.set(xlabel="output tokens/s", ylabel=f"{label}, p50, ms", ylim=(0, None), xlim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def draw_gaps(path: Path, streams: Mapping[str, Sample], heading: str, *, log: bool = False) -> None:
    """Write a PNG of the gaps of one stream per server over time. log: a logarithmic axis. Raises PlotError."""
    require()
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for name, stream in streams.items():
        times = [arrival - stream.due for arrival in stream.arrivals[1:]]
        axes.plot(times, [1000 * gap for gap in stream.gaps], marker=".", lw=0.8, label=name)
    axes.set(xlabel="seconds since the request", ylabel="gap, ms")
    axes.set_title(heading, fontsize=10)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
