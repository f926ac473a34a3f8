"""The engine on exported models with states of a fixed size: in a batch, over turns and after preemption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from arch_models import RECURRENT, make_model
from infrs_export.cli import main
from tiny_tokenizer import VOCAB, write_tokenizer

from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.cli.command import run
from infrs.core import Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Rows

EOS = 1
NAMES = ["qwen3_5", "qwen3_5_moe", "lfm2", "falcon_h1", "mamba2"]
GREEDY = SamplingParams(temperature=0)
SYSTEM = (*[7 + 3 * i % 40 for i in range(30)], EOS)
TURNS = [(*SYSTEM, *[5 + (i * i + turn) % 50 for i in range(11 + turn)], EOS, 9, 10) for turn in range(6)]
Exported = Callable[[str], Path]


class _Text:
    def feed(self, token_id: int) -> str:
        return f"{token_id} "

    def flush(self) -> str:
        return ""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Export a family in int8, once for all tests of this file."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            model_type, changes = RECURRENT[name]
            folder = tmp_path_factory.mktemp(name)
            make_model(model_type, {**changes, "vocab_size": VOCAB}).save_pretrained(folder / name)
            write_tokenizer(folder / name)
            command = [str(folder / name), "--output", str(folder / "cache"), "--dtype", "int8", "--quiet"]
            run(main, "infrs-export", command)
            [made[name]] = [path.parent for path in (folder / "cache").rglob("manifest.json")]
        return made[name]

    return get


def new_engine(bundle: Path, num_rows: int, num_spare_rows: int = 0, num_snapshots: int = 0) -> Engine:
    rows = Rows(num_rows, 120, num_spare_rows, num_snapshots)
    runner = open_runner(bundle, chat_manifest(read_manifest(bundle)), rows, threads=1)
    assert runner.capabilities == replace(runner.capabilities, chunk_invariant=True, min_rows=1, truncatable=False)
    return Engine(runner, _Text, frozenset({EOS}), prefill_chunk=16)


def ask(name: str, prompt: tuple[int, ...], **fields: object) -> Request:
    return Request(name, prompt, 12, GREEDY, ignore_eos=True, **fields)  # type: ignore[arg-type]


def answer(engine: Engine, *requests: Request, steps_before: int = 3) -> dict[str, tuple[list[int], int]]:
    """Submit requests some steps apart. Return each answer, and how many tokens of its prompt were reused."""
    found: dict[str, list[int]] = {}
    reused: dict[str, int] = {}
    waiting = list(requests)
    while waiting or not engine.scheduler.is_idle:
        if waiting:
            engine.submit(waiting.pop(0))
        for _ in range(steps_before):
            for delta in engine.step():
                assert delta.error is None
                found.setdefault(delta.request_id, []).extend(delta.token_ids)
                reused[delta.request_id] = delta.usage.num_reused_tokens
            assert violations(engine) == []
    return {name: (tokens, reused[name]) for name, tokens in found.items()}


def alone(bundle: Path, prompt: tuple[int, ...]) -> list[int]:
    return answer(new_engine(bundle, 1), ask("alone", prompt))["alone"][0]


@pytest.mark.parametrize("name", NAMES)
def test_answers_in_a_batch_are_those_alone(name: str, exported: Exported) -> None:
    bundle = exported(name)
    found = answer(new_engine(bundle, 4, 2, 6), *(ask(str(turn), prompt) for turn, prompt in enumerate(TURNS)))
    assert {turn: tokens for turn, (tokens, _) in found.items()} == {
        str(turn): alone(bundle, prompt) for turn, prompt in enumerate(TURNS)
    }
    assert sum(reused == len(SYSTEM) for _, reused in found.values()) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_second_turn_resumes_behind_the_first_prompt(name: str, exported: Exported) -> None:
    bundle = exported(name)
    engine = new_engine(bundle, 2, 0, 4)
    answer(engine, ask("first", TURNS[3]))
    second = (*TURNS[3][:-2], 21, 22, 23, EOS, *range(30, 40), EOS, 9, 10)
    assert answer(engine, ask("second", second))["second"] == (alone(bundle, second), len(TURNS[3]) - 2)


@pytest.mark.parametrize("num_spare_rows", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_a_preempted_answer_is_that_alone(name: str, num_spare_rows: int, exported: Exported) -> None:
    bundle = exported(name)
    engine = new_engine(bundle, 2, num_spare_rows, 4)
    requests = [ask("a", TURNS[0], tenant="a"), ask("b", TURNS[1], tenant="a"), ask("c", TURNS[2], tenant="b")]
    found = answer(engine, *requests, steps_before=6)
    assert engine.scheduler.placement.num_preemptions == 1
    assert [found[each.request_id][0] for each in requests] == [alone(bundle, prompt) for prompt in TURNS[:3]]
