"""The profile of a step, on the synthetic graph with known nodes and on artificial ONNX Runtime profiles."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import orjson
import pytest

from infrs.bench.engine.operators import Profile
from infrs.bench.engine.roofline import Machine, bound, measure_machine, weight_bytes
from infrs.bench.engine.steps import Bench, ProfileError, RunCounter
from infrs.bench.engine.timing import Stopwatch
from infrs.engine.runners.fused import FusedRunner
from infrs.engine.runners.plain import PlainRunner
from infrs.engine.runners.runner import Capabilities, Rows
from infrs.engine.runners.session import create_session
from infrs.engine.speculation.drafter import Draft
from infrs.engine.speculation.lookup import PromptLookup


def _synthetic() -> ModuleType:
    """The graph of the engine's own tests."""
    path = Path(__file__).parent.parent / "engine" / "synthetic.py"
    spec = importlib.util.spec_from_file_location("bench_synthetic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


synthetic = _synthetic()


def bench(folder: Path, kind: str = "fused", capacity: int = 128, profile: Path | None = None) -> Bench:
    synthetic.build(folder / "model.onnx", kind)
    session = create_session(folder / "model.onnx", 1, profile=profile)
    counter = RunCounter(session)
    runner = (FusedRunner if kind == "fused" else PlainRunner)(session, synthetic.manifest(kind), Rows(4, capacity))
    return Bench(runner, session, counter, synthetic.Letters)


@pytest.mark.parametrize("kind", ["fused", "plain"])
@pytest.mark.parametrize("rows", [1, 4])
def test_a_step_is_the_sum_of_its_parts(tmp_path: Path, kind: str, rows: int) -> None:
    profiler = bench(tmp_path, kind)
    prompt = tuple(np.arange(64) % 90 + 1)
    before = profiler.counter.count
    times = profiler.measure(prompt, rows, num_steps=6)
    assert (times.rows, 60 <= times.context <= 80) == (rows, True)
    assert 0 < times.session < times.step
    assert min(times.binding, times.sampling, times.detokenising, times.scheduling) > 0
    parts = times.session + times.binding + times.sampling + times.detokenising + times.scheduling + times.rest
    assert parts == pytest.approx(times.step)
    assert times.outside == pytest.approx(times.step - times.session)
    assert times.tokens_per_s == pytest.approx(rows / times.step)
    first, end = times.runs
    assert before < first < end == profiler.counter.count
    assert end - first == (6 if kind == "fused" else 6 * rows)  # the plain graph runs row by row


def test_a_lone_row_is_measured_token_by_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptLookup, "propose", lambda self, text, limit: Draft((1, 2, 3)[:limit]))
    profiler = bench(tmp_path)
    profiler.runner.capabilities = Capabilities(chunk_invariant=True)  # a lone row then verifies drafts
    times = profiler.measure(tuple(range(1, 65)), 1, num_steps=6)
    assert times.context == round(sum(range(66, 72)) / 6)  # one token per step, without draft tokens
    assert times.session > 0
    assert times.binding > 0


def test_rows_that_end_while_they_are_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="context is too short"):
        bench(tmp_path, capacity=40).measure(tuple(range(1, 36)), 2, num_steps=20)


def test_operators_of_the_runs_asked_for(tmp_path: Path) -> None:
    profiler = bench(tmp_path, profile=tmp_path / "profile")
    times = profiler.measure(tuple(range(1, 34)), 2, num_steps=3)
    profile = Profile(Path(profiler.session.end_profiling()))
    found = {operator.kind: operator for operator in profile.operators(times.runs)}
    assert found["ScatterElements"].nodes == 2  # a key and a value, of one layer
    assert found["ReduceSum"].nodes == 2
    assert all(operator.seconds > 0 for operator in found.values() if operator.kind == "ScatterElements")
    assert profile.operators((0, profiler.counter.count))


def node(kind: str, start: int, microseconds: int, inputs: list[int], outputs: list[int]) -> dict[str, object]:
    shapes = {"input_type_shape": [{"float": inputs}], "output_type_shape": [{"float": outputs}]}
    return {"cat": "Node", "name": f"x/{kind}", "ts": start, "dur": microseconds, "args": {"op_name": kind} | shapes}


def test_multiply_adds_and_times_of_a_profile(tmp_path: Path) -> None:
    def run(start: int) -> dict[str, object]:
        return {"cat": "Session", "name": "model_run", "ts": start, "dur": 90, "args": {}}

    events = [
        node("Identity", 5, 1, [1], [1]),  # while the session was made: of no run
        run(100),
        node("MatMulNBits", 110, 20, [1, 8, 576], [1, 8, 960]),
        node("Mul", 130, 2, [1, 8, 960], [1, 8, 960]),
        run(200),
        node("MatMulNBits", 210, 40, [1, 8, 576], [1, 8, 960]),
        node("Mul", 250, 4, [1, 8, 960], [1, 8, 960]),
        run(300),
        node("MatMulNBits", 310, 500, [1, 1, 576], [1, 1, 960]),
    ]
    path = tmp_path / "profile.json"
    path.write_bytes(orjson.dumps(events))
    product, other = Profile(path).operators((0, 2))
    assert (product.kind, product.nodes, product.multiply_adds) == ("MatMulNBits", 1, 8 * 576 * 960)
    assert product.seconds == pytest.approx(30e-6)
    assert (other.kind, other.seconds, other.multiply_adds) == ("Mul", pytest.approx(3e-6), 0)
    assert [operator.multiply_adds for operator in Profile(path).operators((2, 3))] == [576 * 960]


def test_the_bound_of_a_step() -> None:
    manifest = synthetic.manifest()
    assert weight_bytes(manifest) == 1
    found = bound(Machine(100.0, 50.0), manifest, kv_bytes=992, multiply_adds=200.0)
    assert (found.reading, found.computing, found.seconds) == ((1 + 992) / 100, 4.0, 993 / 100)


def test_the_machine_reads_and_computes() -> None:
    machine = measure_machine()
    assert 1e8 < machine.bandwidth < 1e13
    assert 1e8 < machine.multiply_adds < 1e15


def test_a_stopwatch_leaves_things_as_they_were() -> None:
    class Thing:
        def work(self) -> int:
            return 3

    thing = Thing()
    own = thing.own = lambda: 4  # type: ignore[attr-defined]
    watch = Stopwatch()
    with watch.watching({"class": (Thing, "work"), "own": (thing, "own"), "never": (Thing, "__init__")}):
        assert thing.work() == 3
        assert thing.own() == 4  # type: ignore[attr-defined]
    assert watch.seconds["class"] > 0
    assert watch.seconds["own"] > 0
    assert watch.seconds["never"] == 0
    assert "work" not in vars(thing)
    assert thing.own is own  # type: ignore[attr-defined]
    assert "timed" not in repr(Thing.work)
    assert "__init__" not in vars(Thing)
