"""The comparison with peers: what is kept of a run, the page made of it, and libraries behind a thin server."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from infrs.bench.client import Asking, Target, ask
from infrs.bench.transport import Endpoint

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "benchmarks" / "peers" / "programs"
SPEEDS = {"infrs int4": 30.0, "llama.cpp Q4_0": 20.0}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Import a module of benchmarks/, with its results and its page in a folder of their own."""
    monkeypatch.syspath_prepend(str(ROOT))
    page = import_module("benchmarks.peers.page")
    monkeypatch.setattr(import_module("benchmarks.lib.results"), "RESULTS", tmp_path / "results")
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    return lambda name: import_module(f"benchmarks.{name}")


def run_of(benchmark: Any, run: Any, rounds: int = 3) -> tuple[ModuleType, Any]:
    """A run of one workload over two servers that are not started."""
    peers, servers, workloads = (benchmark(name) for name in ("peers.compare", "peers.servers", "peers.workloads"))
    targets = [Target(name, Endpoint.parse("http://127.0.0.1:9"), "demo") for name in SPEEDS]
    started = [servers.Server(target, ready_seconds=1, resident_bytes=1, weight_bytes=1) for target in targets]
    begun = peers.Run("speed", [tuple(SPEEDS)], {"infrs": "0"})
    contenders = [peers.Contender(server.target.name, {"": server}) for server in started]
    begun.measure(contenders, [workloads.Workload(workloads.WORKLOADS[0].title, "tok/s", True, run)], rounds)
    return benchmark("peers.page"), begun


def test_rounds_take_turns_and_become_a_page(benchmark: Any) -> None:
    seen = []

    async def run(target: Target, seed: str) -> float:
        seen.append((seed.rpartition(" ")[2], target.name))
        return SPEEDS[target.name] + len(seen)

    page, _ = run_of(benchmark, run)
    first, second = SPEEDS
    assert [name for _, name in seen] == [first, second, second, first, first, second, second, first]
    assert [seed for seed, _ in seen] == ["0", "0", "1", "1", "2", "2", "3", "3"]
    kept = benchmark("lib.results").load("speed")
    assert kept["rounds"] == 3
    assert list(kept["values"].values()) == [{first: [34, 35, 38], second: [23, 26, 27]}]
    text = page.PAGE.read_text()
    assert "| tok/s | 35 | 26 |\n" in text
    assert "| 1.35x (1.35-1.48) |\n" in text
    assert "| 35 : 26 tok/s, **1.35x (1.35-1.48)** |\n" in text
    assert (page.PAGE.parent / "images" / "speed.png").is_file()
    assert "infrs ran its own kernels" in text or "infrs ran ONNX Runtime's kernels" in text


def test_interrupted_run_keeps_complete_rounds(benchmark: Any) -> None:
    async def run(target: Target, seed: str) -> float:
        if seed.endswith(" 2"):
            raise KeyboardInterrupt
        return SPEEDS[target.name]

    with pytest.raises(KeyboardInterrupt):
        run_of(benchmark, run)
    gc.collect()  # asyncio reports the abandoned task here, not in another test
    kept = benchmark("lib.results").load("speed")
    assert kept["rounds"] == 1
    assert "1.50x" in benchmark("peers.page").PAGE.read_text()


def test_a_workload_that_fails_is_a_dash(benchmark: Any) -> None:
    async def run(target: Target, _: str) -> float:
        if target.name == "llama.cpp Q4_0":
            raise RuntimeError("no answer")
        return 30

    page, begun = run_of(benchmark, run, rounds=1)
    assert math.isnan(next(iter(begun.content["values"].values()))["llama.cpp Q4_0"][0])
    text = page.PAGE.read_text()
    assert "| tok/s | 30 | - |\n" in text
    assert "| - |\n" in text


def test_the_best_variant_of_the_pilot_round_is_measured(benchmark: Any) -> None:
    peers, servers, workloads = (benchmark(name) for name in ("peers.compare", "peers.servers", "peers.workloads"))
    seen = []

    def server(name: str) -> Any:
        target = Target(name, Endpoint.parse("http://127.0.0.1:9"), "demo")
        return servers.Server(target, ready_seconds=1, resident_bytes=1, weight_bytes=1, command=f"run {name}")

    async def run(target: Target, seed: str) -> float:
        seen.append((seed.rpartition(" ")[2], target.name))
        return {"a": 30.0, "b": 20.0, "c": 25.0, "d": math.nan}[target.name]

    begun = peers.Run("speed", [("infrs int4", "llama.cpp Q4_0")], {})
    ours = peers.Contender("infrs int4", {"": server("a")})
    theirs = peers.Contender("llama.cpp Q4_0", {"2 threads": server("b"), "1 thread": server("c"), "3": server("d")})
    titles = [workload.title for workload in workloads.WORKLOADS[:2]]
    begun.measure([ours, theirs], [workloads.Workload(title, "tok/s", True, run) for title in titles], 1)
    assert [name for number, name in seen if number == "0"] == [*"abcd"] * 2
    assert {name for number, name in seen if number == "1"} == {"a", "c"}
    assert begun.content["values"][titles[0]] == {"infrs int4": [30], "llama.cpp Q4_0": [25]}
    text = benchmark("peers.page").PAGE.read_text()
    assert "- llama.cpp Q4_0 ran with 1 thread: the best in the pilot round\n- `run a`\n- `run b`\n" in text


def test_page_has_quality_and_keeps_notes(benchmark: Any) -> None:
    async def run(target: Target, _: str) -> float:
        return SPEEDS[target.name]

    page, _ = run_of(benchmark, run, rounds=1)
    page.PAGE.write_text(page.PAGE.read_text() + "By hand.\n")
    manual = {"kl": 0.25, "top1": 0.5, "tokens": 3 * 1968}
    figures = {"kl": 0.125, "top1": 0.75, "weight_bytes": 2_000_000, "tokens": 1968, "manual": manual, "key": "k"}
    benchmark("lib.results").save("quality", dict.fromkeys(SPEEDS, figures))
    page.write(page.PAGE)
    text = page.PAGE.read_text()
    assert "| infrs int4 | 0.1250 | 75.0% | 0.2500 | 50.0% | 2.0 MB |" in text
    assert "1,968 tokens" in text
    assert text.count("By hand.") == 1


def test_divergence_by_hand(benchmark: Any) -> None:
    quality = benchmark("quality.divergence")
    reference = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], np.float32))
    other = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)) + 3
    kl, top1 = quality.divergence(reference, [other[:1], other[1:]])
    assert kl == pytest.approx((0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)) / 2, abs=1e-6)
    assert top1 == 0.5
    assert quality.divergence(reference, [reference]) == (0, 1)


def test_a_library_answers_one_after_the_other(benchmark: Any) -> None:
    code = """
import time
from library_server import serve

def answer(body, piece):
    for _ in range(body["max_tokens"]):
        time.sleep(0.05)
        piece("a")
    return 3, body["max_tokens"]

serve(answer)
"""
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(PROGRAMS)!r})\n{code}",
    ]
    servers = benchmark("peers.servers")

    async def both(target: Target) -> list[Any]:
        origin = time.perf_counter()
        message = [{"role": "user", "content": "Hi"}]
        return await asyncio.gather(*(ask(target, message, Asking(4), origin=origin) for _ in range(2)))

    with servers._process("library", command, r"ready at (http://\S+)", 0) as server:
        samples = asyncio.run(both(server.target))
    assert [(sample.error, sample.text, sample.num_input, sample.num_output) for sample in samples] == [
        (None, "aaaa", 3, 4)
    ] * 2
    early, late = sorted(samples, key=lambda sample: sample.ended)
    assert late.arrivals[0] > early.arrivals[-1]
