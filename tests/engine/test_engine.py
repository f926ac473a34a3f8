"""The engine on the synthetic graph, with the real runner and slab, gives exactly the tokens of the formula."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest
import synthetic
from synthetic import KINDS, EngineFactory

from infrs.bundle.manifest import GraphKind
from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.runners.runner import Segment
from infrs.engine.runners.session import Logits
from infrs.errors import ContextLengthError

GREEDY = SamplingParams(temperature=0)


def ask(name: str, prompt: list[int], max_tokens: int = 10, **fields: object) -> Request:
    sampling = fields.pop("sampling", GREEDY)
    return Request(name, tuple(prompt), max_tokens, sampling, **fields)  # type: ignore[arg-type]


def run(engine: Engine, *requests: Request) -> dict[str, list[Delta]]:
    """Submit all, step until idle, and check the invariants after every step."""
    answers: dict[str, list[Delta]] = defaultdict(list)
    for request in requests:
        engine.submit(request)
    while not engine.scheduler.is_idle:
        for delta in engine.step():
            answers[delta.request_id].append(delta)
        assert violations(engine) == []
    return answers


def token_ids(deltas: list[Delta]) -> list[int]:
    return [token_id for delta in deltas for token_id in delta.token_ids]


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17, 40])
@pytest.mark.parametrize(("kind", "min_rows"), [("fused", 1), ("fused", 2), ("plain", 1)])
def test_one_answer_follows_the_formula(new_engine: EngineFactory, length: int, kind: GraphKind, min_rows: int) -> None:
    prompt = [(3 * i) % synthetic.VOCAB for i in range(length)]
    deltas = run(new_engine(kind=kind, min_rows=min_rows), ask("a", prompt, ignore_eos=True))["a"]
    assert token_ids(deltas) == synthetic.greedy(prompt, 10)
    assert text(deltas) == synthetic.letters(token_ids(deltas))
    assert deltas[-1].finish_reason is FinishReason.LENGTH
    assert (deltas[-1].usage.num_prompt_tokens, deltas[-1].usage.num_output_tokens) == (length, 10)
    assert all(delta.finish_reason is None for delta in deltas[:-1])


def random_request(rng: random.Random, index: int) -> Request:
    sampling = SamplingParams(
        temperature=rng.choice([0, 0, 0.7, 1.5]),
        top_k=rng.choice([0, 0, 3]),
        top_p=rng.choice([1, 1, 0.8]),
        presence_penalty=rng.choice([0, 0, 1.5]),
        repetition_penalty=rng.choice([1, 1, 1.3]),
        min_p=rng.choice([0, 0, 0.1]),
        seed=rng.randrange(2**63),
    )
    prompt = [index % 2] * rng.choice([0, 0, 8, 16, 17])  # prefixes that requests share
    prompt += [rng.randrange(synthetic.VOCAB) for _ in range(rng.choice([1, 3, 8, 9, 25]))]
    stop_ids = frozenset(rng.sample(range(synthetic.VOCAB), rng.choice([0, 2])))
    return ask(f"r{index}", prompt, rng.randint(1, 20), sampling=sampling, stop_token_ids=stop_ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(200))
def test_alone_batched_and_staggered_answers_are_equal(new_engine: EngineFactory, kind: GraphKind, seed: int) -> None:
    """Requests join, leave and reuse rows at random. Every answer equals the one of the request alone."""
    rng = random.Random(seed)
    requests = [random_request(rng, index) for index in range(rng.randint(2, 9))]
    alone = {}
    single = new_engine(num_rows=1, kind=kind)
    for request in requests:
        alone[request.request_id] = run(single, request)[request.request_id]
        single.scheduler.clear()
    exact = kind == "fused" and rng.random() < 0.5
    min_rows = 1 if exact else rng.choice([1, 2])
    engine = new_engine(
        num_rows=rng.randint(1, 5),
        num_spare_rows=rng.choice([0, 1, 3]),
        min_rows=min_rows,
        kind=kind,
        chunk_invariant=exact,
        min_kept=4,
    )
    answers: dict[str, list[Delta]] = defaultdict(list)
    to_come = list(requests)
    cancelled = set()
    while to_come or not engine.scheduler.is_idle:
        while to_come and rng.random() < 0.4:
            engine.submit(to_come.pop())
        if rng.random() < 0.05:
            victim = rng.choice(requests).request_id
            if deltas := engine.cancel(victim):
                answers[victim] += deltas
                cancelled.add(victim)
        for delta in engine.step():
            answers[delta.request_id].append(delta)
        assert violations(engine) == []
    for request in requests:
        name = request.request_id
        if name in cancelled:
            assert answers[name][-1].finish_reason is FinishReason.CANCELLED
            assert token_ids(alone[name])[: len(token_ids(answers[name]))] == token_ids(answers[name])
        else:
            assert token_ids(answers[name]) == token_ids(alone[name])
            assert text(answers[name]) == text(alone[name])
            assert answers[name][-1].finish_reason == alone[name][-1].finish_reason
            assert replace(answers[name][-1].usage, num_reused_tokens=0) == alone[name][-1].usage


def test_answers_repeat_with_a_seed_and_vary_without_one(new_engine: EngineFactory) -> None:
    hot = SamplingParams(temperature=5.0, seed=7)
    request = ask("a", [5, 6], 30, sampling=hot, ignore_eos=True)
    first, again = (token_ids(run(new_engine(), request)["a"]) for _ in range(2))
    assert first == again
    other = token_ids(run(new_engine(), replace(request, sampling=replace(hot, seed=8)))["a"])
    unseeded = [token_ids(run(new_engine(), replace(request, sampling=replace(hot, seed=None)))["a"]) for _ in "ab"]
    assert len({tuple(ids) for ids in (first, other, *unseeded)}) == 4


def test_eos_ends_the_answer_without_text(new_engine: EngineFactory) -> None:
    prompt = next(p for p in ([i, j] for i in range(97) for j in range(97)) if 0 in synthetic.greedy(p, 6)[1:])
    expected = synthetic.greedy(prompt, 6)
    end = expected.index(0)
    deltas = run(new_engine(), ask("a", prompt, 20))["a"]
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert text(deltas) == synthetic.letters(expected[:end])
    assert token_ids(deltas) == expected[: end + 1]
    ignored = run(new_engine(), ask("a", prompt, 6, ignore_eos=True))["a"]
    assert token_ids(ignored) == expected


def test_stop_string_across_tokens_is_cut_and_ends_the_answer(new_engine: EngineFactory) -> None:
    expected = synthetic.letters(synthetic.greedy([1, 2, 3], 12))
    deltas = run(new_engine(), ask("a", [1, 2, 3], 12, stop=(expected[4:7], "never")))["a"]
    assert text(deltas) == expected[: expected.index(expected[4:7])]
    assert (deltas[-1].finish_reason, deltas[-1].stop_string) == (FinishReason.STOP, expected[4:7])
    assert {delta.stop_string for delta in deltas[:-1]} <= {None}


def test_text_buffered_for_a_stop_string_is_returned_at_the_end(new_engine: EngineFactory) -> None:
    expected = synthetic.letters(synthetic.greedy([1, 2, 3], 5))
    deltas = run(new_engine(), ask("a", [1, 2, 3], 5, stop=(expected[3:5] + "?",), ignore_eos=True))["a"]
    assert text(deltas) == expected
    assert (deltas[-1].finish_reason, deltas[-1].stop_string) == (FinishReason.LENGTH, None)


def test_the_end_of_the_context_ends_the_answer(new_engine: EngineFactory) -> None:
    engine = new_engine(capacity=16)
    deltas = run(engine, ask("a", [1] * 12, 100, ignore_eos=True))["a"]
    assert len(token_ids(deltas)) == 4
    assert deltas[-1].finish_reason is FinishReason.LENGTH
    with pytest.raises(ContextLengthError, match="16"):
        engine.submit(ask("b", [1] * 16))


def test_a_long_prompt_delays_other_requests_by_one_chunk_at_most(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=2, prefill_chunk=8)
    engine.submit(ask("short", [1, 2], 30, ignore_eos=True))
    engine.step()
    engine.submit(ask("long", [3] * 40, 2, ignore_eos=True))
    for _ in range(5):
        computed = {s.request.request_id: s.tokens.num_computed for s in engine.scheduler.running}
        assert [d.request_id for d in engine.step()].count("short") == 1
        for sequence in engine.scheduler.running:
            gained = sequence.tokens.num_computed - computed.get(sequence.request.request_id, 0)
            assert gained == (1 if sequence.request.request_id == "short" else 8)


def test_several_short_prompts_share_a_step(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=4, prefill_chunk=8)
    for name in "abcd":
        engine.submit(ask(name, [1, 2, 3], 5))
    first, second = engine.step(), engine.step()
    assert [delta.request_id for delta in first] == ["a", "b"]
    assert {delta.request_id for delta in second} == set("abcd")


def reused(deltas: list[Delta]) -> int:
    return deltas[-1].usage.num_reused_tokens


def test_the_next_turn_reuses_the_whole_chunks_of_the_last_prompt(new_engine: EngineFactory) -> None:
    engine = new_engine(prefill_chunk=8)
    first = [(5 * i) % 97 for i in range(20)]
    answer = token_ids(run(engine, ask("a", first, ignore_eos=True))["a"])
    second = [*first, *answer, 1, 2, 3]
    deltas = run(engine, ask("b", second, ignore_eos=True))["b"]
    assert reused(deltas) == 16
    assert token_ids(deltas) == synthetic.greedy(second, 10)
    # For the same prompt again, the last token must be computed, and with it the last whole chunk.
    assert reused(run(engine, ask("c", second[:32], ignore_eos=True))["c"]) == 24
    assert reused(run(engine, ask("d", [9, *second], ignore_eos=True))["d"]) == 0


def test_the_next_turn_reuses_the_answer_where_the_runner_is_chunk_invariant(new_engine: EngineFactory) -> None:
    engine = new_engine(prefill_chunk=8, chunk_invariant=True)
    first = [(5 * i) % 97 for i in range(20)]
    answer = token_ids(run(engine, ask("a", first, ignore_eos=True))["a"])
    second = [*first, *answer, 1, 2, 3]
    deltas = run(engine, ask("b", second, ignore_eos=True))["b"]
    assert reused(deltas) == 29  # the last token of the answer was sampled, but not computed
    assert token_ids(deltas) == synthetic.greedy(second, 10)
    assert reused(run(engine, ask("c", second, ignore_eos=True))["c"]) == len(second) - 1
    assert reused(run(engine, ask("d", [*second[:25], 96, 5], ignore_eos=True, tenant="other"))["d"]) == 0


def test_a_step_is_filled_with_chunks_of_several_prompts(new_engine: EngineFactory) -> None:
    engine = new_engine(prefill_chunk=8, chunk_invariant=True)
    prompts = {name: [index + 1] * 5 for index, name in enumerate("abc")}
    for name, prompt in prompts.items():
        engine.submit(ask(name, prompt, 4, ignore_eos=True))
    deltas = engine.step()
    assert [delta.request_id for delta in deltas] == ["a"]
    assert [sequence.tokens.num_computed for sequence in engine.scheduler.running] == [5, 3, 0]
    answers = run(engine)
    for name, prompt in prompts.items():
        own = [delta for delta in (*deltas, *answers[name]) if delta.request_id == name]
        assert token_ids(own) == synthetic.greedy(prompt, 4)


def test_a_shared_prefix_of_concurrent_requests_is_computed_once(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=4, prefill_chunk=8)
    prompts = {name: [7] * 24 + [index] for index, name in enumerate("abcdef")}
    answers = run(engine, *(ask(name, prompt, 5, ignore_eos=True) for name, prompt in prompts.items()))
    assert [reused(answers[name]) for name in "abcdef"] == [0, 24, 24, 24, 24, 24]
    for name, prompt in prompts.items():
        assert token_ids(answers[name]) == synthetic.greedy(prompt, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_cached_tokens_that_a_row_loses_are_kept_in_a_spare_row(new_engine: EngineFactory, kind: GraphKind) -> None:
    engine = new_engine(num_rows=1, num_spare_rows=2, capacity=128, prefill_chunk=8, kind=kind)
    prompts = {name: [index + 1] * 80 for index, name in enumerate("abcd")}
    for name, expected in (("a", 0), ("b", 0), ("a", 72), ("b", 72), ("c", 0), ("a", 72), ("d", 0), ("b", 0)):
        deltas = run(engine, ask(name, prompts[name], 5, ignore_eos=True, tenant="x"))[name]
        assert reused(deltas) == expected
        assert token_ids(deltas) == synthetic.greedy(prompts[name], 5)
    # Another tenant reuses nothing. A longer turn replaces the shorter one that it starts with.
    assert reused(run(engine, ask("e", prompts["d"], 5, tenant="y"))["e"]) == 0
    assert reused(run(engine, ask("f", [*prompts["d"], *[9] * 30], 5, tenant="x"))["f"]) == 80
    run(engine, ask("g", prompts["c"], 5, tenant="x"))
    slots = engine.scheduler.placement.slots
    assert sorted(len(slots[row].cached) for row in engine.scheduler.limits.spare_rows) == [80, 104]


def test_nothing_is_reused_across_tenants(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=1, prefill_chunk=8)
    for tenant, expected in (("x", 0), ("y", 0), ("y", 16), ("x", 0)):
        assert reused(run(engine, ask("a", [4] * 20, tenant=tenant))["a"]) == expected


def test_a_cancelled_request_frees_its_row_immediately(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=1)
    engine.submit(ask("a", [1] * 20, 20))
    engine.submit(ask("b", [2], 1, ignore_eos=True))
    engine.step()
    assert [delta.finish_reason for delta in engine.cancel("a")] == [FinishReason.CANCELLED]
    assert [delta.request_id for delta in engine.step()] == ["b"]
    assert engine.cancel("a") == []
    assert engine.scheduler.is_idle


def test_a_failing_run_ends_only_its_own_sequences(new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = new_engine(num_rows=2)
    engine.submit(ask("a", [1, 2], 5, ignore_eos=True))
    engine.step()

    healthy = engine.runner.run

    def broken(segments: list[Segment]) -> Logits:
        if segments[0].start == 0:  # a prompt
            raise RuntimeError("no memory")
        return healthy(segments)

    with monkeypatch.context() as patch:
        patch.setattr(engine.runner, "run", broken)
        engine.submit(ask("b", [3], 5))
        deltas = engine.step()
    assert {d.request_id: d.finish_reason for d in deltas} == {"a": None, "b": FinishReason.ERROR}
    failed = next(d for d in deltas if d.request_id == "b")
    assert failed.error is not None
    assert "no memory" in failed.error.message
    assert violations(engine) == []
    assert token_ids(run(engine, ask("c", [9], 4, ignore_eos=True))["c"]) == synthetic.greedy([9], 4)
