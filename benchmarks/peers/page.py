"""Write docs/benchmarks.md from benchmarks/results: speed, scaling and quality, each from its own run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.lib.results import ROOT, load
from benchmarks.peers.workloads import GAPS, SCALING, WORKLOADS, Workload
from infrs.bench.report import number, shown_ratio
from infrs.bench.stats import ratio

PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = "<!-- below this line the page is written by hand, and kept -->"
QUIET = 0.15  # cores that others may have meanwhile

Values = dict[str, list[float]]  # by server name, round by round; NaN where the workload failed
HEAD = """# Benchmarks

The demo model (SmolLM2-135M-Instruct), server against server through HTTP, with the same prompts. The first table has
medians. The second has ratios of medians, and the smallest and largest ratio of a round in brackets."""
PLOT = """![Time between tokens of a running stream](images/gaps.png)

Time between tokens of a running stream while a 1,200-token prompt arrives."""
CONDITIONS = """## Conditions

`python -m benchmarks.peers.compare` measures and writes the tables. Rounds of all servers are interleaved. infrs runs
with its default settings, llama.cpp's server with eight slots. "llama.cpp" is the xllamacpp wheel, compiled for AVX2;
"native" is compiled for this processor. OpenVINO, onnxruntime-genai and transformers are libraries. Each runs behind a
thin server that takes one request at a time."""
START = """## Start and memory"""
QUALITY = """## Quality

The reference is the float32 bundle with ONNX Runtime's kernels. The texts are a held-out text ({tokens} tokens
in pieces of 512) and Python's reference manual ({manual} tokens). The table has the mean KL divergence, and how
often the most likely token is the same. infrs runs the runner and kernels of its server, llama.cpp the library
of the same wheel, so the rounding of activations counts. `python -m benchmarks.quality.divergence` measures
this table alone. [Dtypes](dtypes.md) has all dtypes."""
SCALED = """## Context length and batch size

Separate runs (`--tables scaling`). For context length, each server has one slot and decodes 64 tokens after a prompt of
that length. For batch size, each has 32 slots, 100-token prompts and 96 tokens out."""


def write(path: Path | None = None) -> str:
    """Replace the measured part of the page by what is kept, and keep the notes. Returns the measured part."""
    path = path or PAGE
    speed, scaling, quality = load("speed"), load("scaling"), load("quality")
    parts = [HEAD]
    if speed:
        parts.append(table(speed, WORKLOADS, quality))
        parts += [PLOT] if speed["values"].get(GAPS) else []
        parts += [CONDITIONS, conditions(speed), START, servers(speed)]
    if quality:
        parts.append(quality_section(quality))
    if scaling:
        parts += [SCALED, conditions(scaling), table(scaling, SCALING, {})]
    measured = "\n\n".join([*parts, NOTES])
    notes = path.read_text(encoding="utf-8").partition(NOTES)[2] if path.exists() else ""
    path.write_text(measured + (notes or "\n"), encoding="utf-8")
    return measured


def conditions(run: Mapping[str, Any]) -> str:
    """Machine, versions, rounds of a run, and what else the machine did."""
    facts = run["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    busy = run["others"] > QUIET
    return (
        f"- {facts['date']}, {facts['processor']}, {facts['cores']} cores ({', '.join(facts['instructions'])}), "
        f"{facts['memory_gib']} GiB, {facts['system']}\n"
        f"- {versions}\n"
        f"- infrs ran {run['kernels']}\n"
        f"- rounds: {run['rounds']}, after a warm-up; other work took {run['others']} cores"
        + (": **the machine was busy with other work, do not trust these figures**" if busy else "")
    )


def table(run: Mapping[str, Any], workloads: tuple[Workload, ...], quality: Mapping[str, Any]) -> str:
    """Workloads by servers, with what each server's weights keep of float32; then workloads by pairs."""
    names, pairs = list(run["servers"]), [tuple(pair) for pair in run["pairs"]]
    measured = [workload for workload in workloads if workload.title in run["values"]]
    medians = [["workload", "unit", *names], ["---"] * (2 + len(names))]
    ratios = [["ratio", *(f"{ours} : {theirs}" for ours, theirs in pairs), "goal against llama.cpp"]]
    ratios.append(["---"] * len(ratios[0]))
    for workload in measured:
        values: Values = run["values"][workload.title]
        cells = [number(statistics.median(values[name])) if name in values else "" for name in names]
        medians.append([workload.title, workload.unit, *cells])
        ratios.append([workload.title, *(ratio_of(workload, values, pair) for pair in pairs), goal_of(workload)])
    for title, unit, form, key in (
        ("KL divergence from float32, both texts below", "nats", "{:.4f}", "kl"),
        ("same top token as float32, both texts below", "", "{:.1%}", "top1"),
    ):
        cells = [form.format(overall(quality[name], key)) if name in quality else "" for name in names]
        medians += [[title, unit, *cells]] if any(cells) else []
    return f"{markdown(medians)}\n\n{markdown(ratios)}"


def ratio_of(workload: Workload, values: Values, pair: tuple[str, ...]) -> str:
    """How many times better one of a pair is; empty where one was not measured."""
    if not all(name in values for name in pair):
        return ""
    return shown_ratio(ratio(*(values[name] for name in pair), more_is_better=workload.more_is_better))


def goal_of(workload: Workload) -> str:
    return f"≥ {workload.goal:g}x" if workload.goal else ""


def overall(figures: Mapping[str, Any], key: str) -> float:
    """A figure of both texts, each token counting alike."""
    texts = (figures, figures["manual"])
    return float(sum(text[key] * text["tokens"] for text in texts) / sum(text["tokens"] for text in texts))


def servers(run: Mapping[str, Any]) -> str:
    """Start and size of each server."""
    rows = [["server", "ready after", "memory at rest", "weights"], ["---"] * 4]
    for name, facts in run["servers"].items():
        sizes = (facts["resident_bytes"] / 1e6, facts["weight_bytes"] / 1e6)
        rows.append([name, f"{facts['ready_seconds']:.1f} s", f"{sizes[0]:.0f} MB", f"{sizes[1]:.0f} MB"])
    return markdown(rows)


def quality_section(quality: Mapping[str, Any]) -> str:
    """Quality and size of each side."""
    head = ["weights", "KL, nats", "same top token", "KL, manual", "same top token, manual", "bytes of weights"]
    rows = [head, ["---", *["--:"] * 5]]
    for name, figures in quality.items():
        both = [f"{part['kl']:.4f} | {part['top1']:.1%}" for part in (figures, figures["manual"])]
        rows.append([name, *both, f"{figures['weight_bytes'] / 1e6:.1f} MB"])
    first = next(iter(quality.values()))
    counts = {"tokens": f"{first['tokens']:,}", "manual": f"{first['manual']['tokens']:,}"}
    return f"{QUALITY.format(**counts)}\n\n{markdown(rows)}"


def markdown(rows: list[list[str]]) -> str:
    """A table; the second row is the rule."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
