"""Write docs/benchmarks.md from benchmarks/results. Each table comes from its own run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib.results import ROOT, Kind, load
from benchmarks.peers import chart
from benchmarks.peers.workloads import BEHIND, DRAFTED, GAPS, LEADING, PARALLEL, WORKLOADS, Workload
from infrs.bench.report import number, shown_ratio
from infrs.bench.stats import ratio

PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = "<!-- below this line the page is written by hand, and kept -->"
QUIET = 0.15  # cores that others may have meanwhile

Values = Mapping[str, Sequence[float]]  # by name of a contender, round by round; NaN where the workload failed
HEAD = """# Benchmarks

infrs against llama.cpp's server, compiled for the same processor, on the same weights. Both run with their default
settings, eight slots, and without drafts, through HTTP. Ratios are of medians, with the smallest and the largest ratio
of a round in brackets."""
CHART = "![infrs against llama.cpp's server](images/speed.png)"
PLOT = """![Time between tokens of a running stream](images/gaps.png)

Time between tokens of a running stream while a 1,200-token prompt arrives."""
QUALITY = """## Quality

The reference is the float32 bundle with ONNX Runtime's kernels. The texts are a held-out text ({tokens} tokens
in pieces of 512) and Python's reference manual ({manual} tokens). The table has the mean KL divergence, and how
often the most likely token is the same. infrs runs the runner and kernels of its server, llama.cpp the library
of the xllamacpp wheel, so the rounding of activations counts. `python -m benchmarks.quality.divergence` measures
this table alone. [Dtypes](dtypes.md) has all dtypes."""


@dataclass(frozen=True, slots=True)
class Table:
    """A section of the page: its text, and the workloads of its run."""

    title: str
    text: str
    workloads: Sequence[Workload]


SPEED = Table(
    "The demo model",
    "SmolLM2-135M-Instruct. Nothing is drafted, so each token takes a step of the model.",
    WORKLOADS,
)
TABLES: Mapping[Kind, Table] = {
    "larger": Table(
        "A model with a billion weights",
        "Random weights in the shape of Llama 3.2 1B. They show speed alone. Nothing is drafted.",
        LEADING,
    ),
    "drafts": Table(
        "Drafts",
        "infrs drafts what followed the same tokens earlier in the text, by default. llama.cpp does this with\n"
        "`--spec-type`. Both answer as they do without drafts. A [draft model](using/drafts.md) comes on top.",
        DRAFTED,
    ),
    "scaling": Table(
        "Context length and batch size",
        "For context length, each server has one slot and decodes 64 tokens after a prompt of that length. For batch\n"
        "size, each has 32 slots, 100-token prompts and 96 tokens out. Nothing is drafted.",
        (*BEHIND, *PARALLEL),
    ),
    "others": Table(
        "Other peers",
        "The demo model. OpenVINO, onnxruntime-genai and transformers are libraries. Each runs behind a thin server\n"
        "that takes one request at a time. Empty cells were not measured.",
        LEADING,
    ),
}


def write(path: Path | None = None) -> str:
    """Replace the measured part of the page by what is kept, and keep the notes. Returns the measured part."""
    path = path or PAGE
    speed, quality = load("speed"), load("quality")
    parts = [HEAD]
    if speed:
        image = path.parent / "images" / "speed.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        chart.draw(image, speed, LEADING)
        parts += [CHART, leading(speed), *section(SPEED, speed)]
        parts += [PLOT] if speed["values"].get(GAPS) else []
    for kind, table in TABLES.items():
        if run := load(kind):
            parts += section(table, run)
    if speed:
        parts += ["## Start and memory", servers(speed, load("larger"))]
    if quality:
        parts.append(quality_section(quality))
    measured = "\n\n".join([*parts, NOTES])
    notes = path.read_text(encoding="utf-8").partition(NOTES)[2] if path.exists() else ""
    path.write_text(measured + (notes or "\n"), encoding="utf-8")
    return measured


def leading(run: Mapping[str, Any]) -> str:
    """Return the table that leads the page: medians and ratio of each pair in one cell."""
    pairs = [tuple(pair) for pair in run["pairs"]]
    rows = [["", *(f"{ours} : {theirs}" for ours, theirs in pairs)], ["---"] * (1 + len(pairs))]
    for workload in LEADING:
        if values := run["values"].get(workload.title):
            cells = [
                f"{' : '.join(number(statistics.median(values[name])) for name in pair)} {workload.unit}, "
                f"**{ratio_of(workload, values, pair)}**"
                for pair in pairs
            ]
            rows.append([workload.title, *cells])
    return markdown(rows)


def section(table: Table, run: Mapping[str, Any]) -> list[str]:
    """Return the parts of a section: its text, medians, ratios, and the conditions."""
    return [f"## {table.title}", table.text, tables(run, table.workloads), conditions(run)]


def conditions(run: Mapping[str, Any]) -> str:
    """Return machine, versions, rounds and command lines of a run, and what else the machine did."""
    facts = run["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    busy = run["others"] > QUIET
    lines = [
        f"- {facts['date']}, {facts['processor']}, {facts['cores']} cores ({', '.join(facts['instructions'])}), "
        f"{facts['memory_gib']} GiB, {facts['system']}",
        f"- {versions}; infrs ran {run['kernels']}",
        f"- rounds: {run['rounds']}, after a warm-up; other work took {run['others']} cores"
        + (": **the machine was busy with other work, do not trust these figures**" if busy else ""),
        *variants(run),
        *(f"- `{command}`" for command in commands(run)),
    ]
    return "\n".join(lines)


def commands(run: Mapping[str, Any]) -> list[str]:
    """Return the command lines of the servers. A server of an older run has none."""
    return [command for command in dict.fromkeys(facts["command"] for facts in run["servers"].values()) if command]


def variants(run: Mapping[str, Any]) -> list[str]:
    """Return which variant of a contender ran, and where another one was better in the pilot round."""
    lines = []
    for name, chosen in run["variants"].items():
        counts = {each: [*chosen.values()].count(each) for each in dict.fromkeys(chosen.values())}
        usual = max(counts, key=lambda each: counts[each])
        others = [f"{each} for '{title}'" for title, each in chosen.items() if each != usual]
        lines.append(f"- {name} ran with {', '.join([usual, *others])}: the best in the pilot round")
    return lines


def tables(run: Mapping[str, Any], workloads: Sequence[Workload]) -> str:
    """Return workloads by servers, then workloads by pairs."""
    names, pairs = list(run["servers"]), [tuple(pair) for pair in run["pairs"]]
    medians = [["workload", "unit", *names], ["---", "---", *["--:"] * len(names)]]
    ratios = [["ratio", *(f"{ours} : {theirs}" for ours, theirs in pairs)], ["---"] * (1 + len(pairs))]
    for workload in workloads:
        if values := run["values"].get(workload.title):
            cells = [number(statistics.median(values[name])) if name in values else "" for name in names]
            medians.append([workload.title, workload.unit, *cells])
            ratios.append([workload.title, *(ratio_of(workload, values, pair) for pair in pairs)])
    return f"{markdown(medians)}\n\n{markdown(ratios)}"


def ratio_of(workload: Workload, values: Values, pair: Sequence[str]) -> str:
    """Return how many times better one of a pair is; empty where one was not measured."""
    if not all(name in values for name in pair):
        return ""
    return shown_ratio(ratio(*(values[name] for name in pair), more_is_better=workload.more_is_better))


def servers(*runs: Mapping[str, Any]) -> str:
    """Return start and size of each server, of the demo and of the larger model."""
    rows = [["server", "ready after", "memory at rest", "weights"], ["---", *["--:"] * 3]]
    for run, model in zip(runs, ("the demo", "a billion weights"), strict=True):
        for name, facts in run["servers"].items() if run else ():
            sizes = (facts["resident_bytes"] / 1e6, facts["weight_bytes"] / 1e6)
            ready = f"{facts['ready_seconds']:.1f} s"
            rows.append([f"{name}, {model}", ready, *(f"{size:,.0f} MB" for size in sizes)])
    return markdown(rows)


def quality_section(quality: Mapping[str, Any]) -> str:
    """Return quality and size of each side."""
    head = ["weights", "KL, nats", "same top token", "KL, manual", "same top token, manual", "bytes of weights"]
    rows = [head, ["---", *["--:"] * 5]]
    for name, figures in quality.items():
        both = [f"{part['kl']:.4f} | {part['top1']:.1%}" for part in (figures, figures["manual"])]
        rows.append([name, *both, f"{figures['weight_bytes'] / 1e6:.1f} MB"])
    first = next(iter(quality.values()))
    counts = {"tokens": f"{first['tokens']:,}", "manual": f"{first['manual']['tokens']:,}"}
    return f"{QUALITY.format(**counts)}\n\n{markdown(rows)}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the second row is the rule."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
