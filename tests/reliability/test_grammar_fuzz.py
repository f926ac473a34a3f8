"""The engine's answers under generated schemas and patterns: no constraint that was accepted fails with a fault.

Compiling is not enough: the parser's limits may be met by any mask of an answer, also by that of a draft token.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import jsonschema
import numpy as np
import pytest
from text_tokenizers import KINDS
from tokenizers import Tokenizer as Backend

from infrs.core import Grammar, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.runners.runner import Capabilities, Segment
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.errors import RequestError
from infrs.text.constraint import Constraint
from infrs.text.detokenizer import Detokenizer
from infrs.text.schemas.guided import guided_leniently
from infrs.text.tokenizer import Tokenizer

DEFINITION = KINDS["byte-level"]()
BACKEND = Backend.from_str(DEFINITION)
WIDTH, EOS = 1024, 2
PROMPT_TOKENS, MAX_TOKENS = 8, 400
SECONDS = 2.0  # that one step may take; a tenth of it on a machine that does nothing else
TOO_COMPLEX = "schema_too_complex, late"
REFUSALS = {"schema_too_complex", "unsupported_schema", "invalid_schema", "invalid_grammar"}
NAMES = ["a", "b", "name", "é", "a b"]


def schema(rng: random.Random, depth: int = 3) -> dict[str, Any]:
    """Draw a schema."""
    kinds = (
        [whole, number, text, named, listed] if depth == 0 else [obj, obj, array, union, both, record, distinct, text]
    )
    return rng.choice(kinds)(rng, depth - 1)


def whole(rng: random.Random, _: int) -> dict[str, Any]:
    low = rng.randint(-50, 50)
    return rng.choice([{"type": "integer"}, {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 99)}])


def number(rng: random.Random, _: int) -> dict[str, Any]:
    return rng.choice([{"type": "number"}, {"type": "number", "exclusiveMinimum": rng.random()}, {"multipleOf": 0.25}])


def text(rng: random.Random, _: int) -> dict[str, Any]:
    least = rng.randint(0, 3)
    return {"type": "string"} | rng.choice(
        [
            {"minLength": least, "maxLength": least + rng.randint(0, 40)},
            {"pattern": f"^{pattern(rng)}$"},
            {"format": rng.choice(["date", "uuid", "ipv4", "email", "password"])},
        ]
    )


def named(rng: random.Random, _: int) -> dict[str, Any]:
    return {"enum": rng.sample(["red", "é", 1, 2.5, None, True, 'a"b'], rng.randint(1, 4))}


def listed(rng: random.Random, _: int) -> dict[str, Any]:
    return {"type": rng.choice(["boolean", "null", ["integer", "null"], ["string", "boolean"]])}


def obj(rng: random.Random, depth: int) -> dict[str, Any]:
    if rng.random() < 0.1:  # as large as it may be
        names = [f"{rng.choice('abc')}{index}" for index in range(rng.randint(20, 1000))]
        properties = {name: rng.choice([whole, text, listed])(rng, 0) for name in names}
        return {"type": "object", "properties": properties, "required": rng.sample(names, rng.randint(0, 2))}
    properties = {name: schema(rng, depth) for name in rng.sample(NAMES, rng.randint(0, 4))}
    required = [name for name in properties if rng.random() < 0.6]
    more = rng.choice([{}, {}, {"additionalProperties": False}, {"additionalProperties": schema(rng, 0)}])
    return {"type": "object", "properties": properties, "required": required, **more}


def array(rng: random.Random, depth: int) -> dict[str, Any]:
    least = rng.randint(0, 2)
    items: dict[str, Any] = {"items": schema(rng, depth)}
    if rng.random() < 0.3:
        items = {"prefixItems": [schema(rng, depth)], "items": False}
    return {"type": "array", **items, "minItems": least, "maxItems": least + rng.choice([0, 3, 200])}


def union(rng: random.Random, depth: int) -> dict[str, Any]:
    return {rng.choice(["anyOf", "anyOf", "oneOf"]): [schema(rng, depth) for _ in range(rng.randint(1, 4))]}


def both(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"allOf": [obj(rng, depth), obj(rng, depth)]}


def record(rng: random.Random, depth: int) -> dict[str, Any]:
    names = [{"enum": NAMES[:2]}, {"pattern": "^[a-c]{1,3}$"}, {"maxLength": 3}, {"format": "uuid"}, {"type": "string"}]
    return {"type": "object", "propertyNames": rng.choice(names), "additionalProperties": schema(rng, depth)}


def distinct(rng: random.Random, _: int) -> dict[str, Any]:
    items = rng.choice([{"enum": rng.sample(["red", "é", 1, 1.0, None], rng.randint(1, 4))}, {"type": "boolean"}])
    return {"type": "array", "items": items, "uniqueItems": True, **rng.choice([{}, {"minItems": 1}, {"maxItems": 2}])}


def pattern(rng: random.Random, depth: int = 2) -> str:
    """Draw a regular expression that Python's engine, which checks the answers, matches without much backtracking."""
    parts = []
    for _ in range(rng.randint(1, 3)):
        least = rng.randint(0, 3)
        times = rng.choice(["", "", "?", "*", "+", f"{{{least},{least + rng.randint(0, 60)}}}"])
        inside = "|".join(rng.sample(["[a-c]", "[0-9]", "é", r"\.", "xy?", "[α-ω]"], rng.randint(1, 3)))
        if depth and rng.random() < 0.5:
            inside = "-_"[depth - 1] + pattern(rng, depth - 1)
        parts.append(f"({inside}){times}")
    return "".join(parts)


def repetition(rng: random.Random) -> str:
    """Draw a grammar that counts repetitions of alternatives."""
    words = " | ".join(json.dumps("".join(rng.choices("abc", k=rng.randint(0, 3)))) for _ in range(rng.randint(1, 4)))
    return f"root ::= x{{0,{rng.choice([9, 60, 700])}}}\nx ::= ({words}) y?\ny ::= [a-c] | {words}\n"


def recursion(rng: random.Random) -> str:
    """Draw a grammar in Lark with rules that refer to each other."""
    names = ["start", "one", "two"]
    parts = ['"a"', "/[0-9]{1,3}/", '"(" one ")"', "two?", '/[b-d]+/ "," one', '"x" two*', "start"]
    return "".join(f"{name}: {' | '.join(rng.sample(parts, rng.randint(1, 4)))}\n" for name in names)


class RandomRunner:
    """A graph with scores that look random and depend on the token and its position only."""

    num_snapshots = 0
    num_rows, spare_rows, capacity, kernels, threads = 1, range(0), PROMPT_TOKENS + MAX_TOKENS, "none", 1
    capabilities = Capabilities(chunk_invariant=True)
    max_bytes = 0

    def __init__(self) -> None:
        self.store = self
        self._scores = np.random.default_rng(0).normal(0, 3, (509, WIDTH)).astype(np.float32)
        self._scores[:, EOS] += 6
        self._scores[:, [BACKEND.token_to_id(end) for end in '"}])']] += 4

    def copy(self, source: int, target: int, num_tokens: int, snapshot: int | None = None) -> None: ...

    def release(self) -> None: ...

    def run(self, segments: Sequence[Segment]) -> np.ndarray:
        places = [(each.input_ids[offset], each.start + offset) for each in segments for offset in each.scored]
        return self._scores[[(31 * token_id + position) % len(self._scores) for token_id, position in places]]


def answer(grammar: Grammar, rng: random.Random) -> tuple[str, str]:
    """Let the engine answer: what becomes of it, ended, cut or an error's code, and its text."""
    prompt = tuple(rng.choices(range(3, WIDTH), k=PROMPT_TOKENS))
    ENGINE.submit(Request("x", prompt, MAX_TOKENS, SamplingParams(seed=rng.randrange(1 << 32)), grammar=grammar))
    text = ""
    while not ENGINE.scheduler.is_idle:
        started = time.monotonic()
        deltas = ENGINE.step()
        assert time.monotonic() - started < SECONDS
        for delta in deltas:
            text += delta.text
            if delta.error is not None:
                return f"{delta.error.code}, late", text
            if delta.finish_reason is not None:
                return {"stop": "ended", "length": "cut"}[delta.finish_reason], text
    raise AssertionError("the answer has no end")


def run(constraint: Constraint, rng: random.Random) -> tuple[str, str]:
    """Compile and answer: what becomes of it, and the text."""
    try:
        grammar = COMPILER.compile(constraint)
    except RequestError as error:
        return error.code, ""
    return answer(grammar, rng)


def check(found: Counter[str], figure: Callable[[str], None]) -> None:
    figure(", ".join(f"{outcome}: {count:,}" for outcome, count in sorted(found.items())))
    assert found.keys() <= {"ended", "cut", TOO_COMPLEX, *REFUSALS}
    assert found["ended"] > found.total() / 3


COMPILER = GrammarCompiler(Tokenizer(DEFINITION), WIDTH, (EOS,))
ENGINE = Engine(RandomRunner(), partial(Detokenizer, Tokenizer(DEFINITION)), frozenset({EOS}), prefill_chunk=256)


@pytest.mark.slow
@pytest.mark.nightly("fuzz: answers of schemas")
def test_answers_of_schemas(full: bool, figure: Callable[[str], None]) -> None:
    found: Counter[str] = Counter()
    for seed in range(3_000 if full else 250):
        rng = random.Random(seed)
        asked = schema(rng)
        outcome, text = run(Constraint("json_schema", json.dumps(asked), "x"), rng)
        found[outcome] += 1
        if outcome == "ended":
            with suppress(OverflowError):  # jsonschema cannot divide a number with more than 308 digits
                jsonschema.Draft202012Validator(asked).validate(json.loads(text))
    check(found, figure)
    assert found[TOO_COMPLEX] < found.total() / 50
    assert ENGINE.num_accepted_tokens  # some masks were those of draft tokens


@pytest.mark.slow
@pytest.mark.nightly("fuzz: answers of calls")
def test_answers_of_calls_or_text(full: bool, figure: Callable[[str], None]) -> None:
    found: Counter[str] = Counter()
    for seed in range(1_000 if full else 50):
        rng = random.Random(seed)
        arguments = json.dumps(guided_leniently(obj(rng, 2)))
        other = Constraint("json_schema", json.dumps(obj(rng, 1)), "response_format")
        call = Constraint(
            "calls", f'start: "<f>" %json {arguments} "</f>"\n', "tools", or_else=rng.choice([None, other])
        )
        found[run(call, rng)[0]] += 1
    check(found, figure)


@pytest.mark.slow
@pytest.mark.nightly("fuzz: answers of patterns and grammars")
def test_answers_of_patterns_and_grammars(full: bool, figure: Callable[[str], None]) -> None:
    found: Counter[str] = Counter()
    for seed in range(600 if full else 100):
        rng = random.Random(seed)
        expression = pattern(rng)
        outcome, text = run(Constraint("regex", expression, "x"), rng)
        found[outcome] += 1
        if outcome == "ended":
            assert re.fullmatch(expression, text)
        found[run(Constraint("grammar", repetition(rng), "x"), rng)[0]] += 1
        found[run(Constraint("grammar", recursion(rng), "x"), rng)[0]] += 1
    check(found, figure)
