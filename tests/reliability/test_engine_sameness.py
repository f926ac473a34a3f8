"""On the demo model: threads, chunk borders, evicted rows and failing neighbours change no bit."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from poison import poisoned_sample

from infrs.bundle.manifest import Dtype, Manifest, chat_manifest, read_manifest
from infrs.config.settings import EngineSettings
from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.build import load_engine
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.sequence import Sequence
from infrs.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

DTYPES: tuple[Dtype, ...] = ("float32", "float16", "bfloat16", "int8", "int4")
ROWS = 4
CHUNK = 64
HARMS = ["cancelled", "not finite"]
TEXT = "the sea and a small red boat that nobody had seen before sailed over quiet hills of blue glass"


@dataclass
class Demo:
    """The demo model in a dtype: engines over it, and what to ask them."""

    bundle: Path
    manifest: Manifest
    tokenizer: Tokenizer

    def engine(self, threads: int = 1, rows: int = ROWS) -> Engine:
        settings = EngineSettings(
            max_num_seqs=rows, max_model_len=512, prefill_chunk=CHUNK, threads=threads, kv_budget_mb=400
        )
        return load_engine(self.bundle, self.manifest, settings, self.tokenizer)

    def ask(self, name: str, number: int, max_tokens: int, length: int | None = None) -> Request:
        """A request by its number: greedy or seeded, of up to three chunks, or of so many tokens."""
        choose = random.Random(number)
        if length is not None:
            ids = tuple(choose.choices(range(1000, 9000), k=length))
            return Request(name, ids, max_tokens, SamplingParams(temperature=0.0), ignore_eos=True, num_logprobs=2)
        text = " ".join(choose.choices(TEXT.split(), k=choose.randrange(2, 150)))
        sampling = SamplingParams(temperature=1.0, seed=number) if number % 2 else SamplingParams(temperature=0.0)
        ids = tuple(self.tokenizer.encode(text, special=False))
        return Request(name, ids, max_tokens, sampling, ignore_eos=True, num_logprobs=2)


@pytest.fixture(params=DTYPES)
def demo(request: pytest.FixtureRequest, demo_bundle: Callable[[Dtype], Path]) -> Demo:
    bundle = demo_bundle(request.param)
    return Demo(bundle, chat_manifest(read_manifest(bundle)), Tokenizer.load(bundle))


def run(engine: Engine, *requests: Request, before_step: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """Return the exact output of each request. before_step: called with the number of each step."""
    answers: dict[str, list[Delta]] = defaultdict(list)
    for request in requests:
        engine.submit(request)
    step = 0
    while not engine.scheduler.is_idle:
        before_step(step)
        for delta in engine.step():
            answers[delta.request_id].append(delta)
        assert violations(engine) == []
        step += 1
    return answers


def output_of(deltas: list[Delta]) -> list[object]:
    """All but how much was reused."""
    return [(delta.text, delta.token_ids, delta.finish_reason, delta.logprobs) for delta in deltas]


@pytest.mark.nightly("threads")
def test_answers_do_not_depend_on_the_number_of_threads(demo: Demo, full: bool, figure: Callable[[str], None]) -> None:
    """Alone and in batches: products are split so that one thread computes each sum."""
    num_asks, num_tokens = (20, 32) if full else (3, 8)
    answers = []
    for threads in (1, 2):
        engine = demo.engine(threads)
        asks = [demo.ask(str(number), number, num_tokens) for number in range(num_asks)]
        alone = [output_of(run(engine, asked)[asked.request_id]) for asked in asks]
        together = run(engine, *asks)
        assert [output_of(together[asked.request_id]) for asked in asks] == alone
        answers.append(alone)
    assert answers[0] == answers[1]
    figure(f"{num_asks} requests of {num_tokens} tokens with 1 thread and with 2: 0 differ")


def test_answers_to_prompts_that_end_near_a_chunk_border_are_equal(demo: Demo) -> None:
    """Prompt lengths of one less, equal and one more than a chunk and than a group of eight positions."""
    engine = demo.engine()
    lengths = [end + by for end in (8, CHUNK, 2 * CHUNK) for by in (-1, 0, 1)]
    asks = [demo.ask(str(length), length, 4, length) for length in lengths]
    alone = {asked.request_id: output_of(run(engine, asked)[asked.request_id]) for asked in asks}
    together = run(demo.engine(), *asks)
    assert {name: output_of(deltas) for name, deltas in together.items()} == alone


@pytest.mark.nightly("evicted")
def test_answers_to_cached_and_evicted_prompts_are_equal(demo: Demo, full: bool, figure: Callable[[str], None]) -> None:
    """A prompt that is computed, reused, evicted and computed again."""
    num_asks, num_tokens = (20, 32) if full else (1, 8)
    engine = demo.engine(rows=2)
    for number in range(num_asks):
        asked = demo.ask("asked", number, num_tokens)
        # Each long enough to be kept in a spare row, and with another beginning.
        others = [demo.ask(f"other {i}", 1000 + 10 * number + i, 2, 2 * CHUNK) for i in range(6)]
        cold, warm = run(engine, asked)["asked"], run(engine, asked)["asked"]
        run(engine, *others)
        evicted = run(engine, asked)["asked"]
        assert output_of(warm) == output_of(cold)
        assert output_of(evicted) == output_of(cold)
        # What fits into no whole chunk is not reused where a prompt's chunks matter.
        assert warm[-1].usage.num_reused_tokens > 0 or len(asked.prompt_ids) <= CHUNK
        assert evicted[-1].usage.num_reused_tokens == 0
    figure(f"{num_asks} prompts cold, warm and evicted: 0 differ")


@pytest.mark.nightly("neighbours that fail")
@pytest.mark.parametrize("harm", HARMS)
def test_failing_neighbours_change_no_answer(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, harm: str, full: bool, figure: Callable[[str], None]
) -> None:
    """In each step one of three neighbours is cancelled, or its logits become NaN."""
    # In the quick form a greedy answer has neighbours that are cancelled, a seeded one has those that are not finite.
    asks, num_tokens = (range(5), 32) if full else ([HARMS.index(harm)], 10)
    engine = demo.engine()
    sick: set[str] = set()
    poisoned = poisoned_sample(np.nan, lambda sequence: sequence.request.request_id in sick)
    monkeypatch.setattr(Sequence, "sample", poisoned)
    for number in asks:
        healthy = demo.ask("healthy", number, num_tokens)
        expected = output_of(run(engine, healthy)["healthy"])

        def strike(step: int, number: int = number) -> None:
            engine.submit(demo.ask(f"victim {step}", 100 * number + step, num_tokens))
            if harm == "cancelled":
                engine.cancel(f"victim {step - 3}")
            else:
                sick.add(f"victim {step - 3}")
            if len(engine.scheduler.find("healthy")) == 0:
                for waiting in range(step + 1):
                    engine.cancel(f"victim {waiting}")

        answers = run(engine, healthy, before_step=strike)
        assert output_of(answers["healthy"]) == expected
        if harm == "not finite":
            ends = [deltas[-1].finish_reason for name, deltas in answers.items() if name in sick]
            assert FinishReason.ERROR in ends
        sick.clear()
    figure(f"{len(asks)} requests of {num_tokens} tokens, a victim each step: 0 differ")
