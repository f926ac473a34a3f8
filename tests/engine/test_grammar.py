"""Grammars over a real vocabulary: finished answers validate, and unusable constraints are refused quickly."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jsonschema
import numpy as np
import pytest
from infrs_export.sources.demo import find_gguf
from infrs_export.sources.gguf.tokenizer import write_tokenizer
from schemas import REFUSED, SCHEMAS

from infrs.core import Grammar, SamplingParams
from infrs.engine.sampling.grammar import MAX_COMPILED, GrammarCompiler, MatcherState
from infrs.engine.sampling.logits import allow_only
from infrs.engine.sampling.sampler import new_generator, sample
from infrs.errors import EngineError, RequestError
from infrs.text.constraint import JSON_OBJECT, Constraint
from infrs.text.tokenizer import Tokenizer

WIDTH = 49_280  # wider than the vocabulary, as padded logits are
EOS = (0, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("grammar")
    write_tokenizer(find_gguf(lambda: None), directory)
    return directory


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def compiler(folder: Path) -> GrammarCompiler:
    return GrammarCompiler(Tokenizer.load(folder), WIDTH, EOS)


@pytest.fixture(scope="module")
def closing(tokenizer: Tokenizer) -> np.ndarray:
    """Return scores [WIDTH] that favour closing tokens, without which a random model rarely ends."""
    texts = [tokenizer.decode([token_id]) for token_id in range(tokenizer.vocab_size)]
    scores = np.zeros(WIDTH, dtype=np.float32)
    likelier = (('"', 8.0), ("@", 8.0), ("}", 4.0), ("]", 4.0), ("nu", 4.0))
    scores[: len(texts)] = [max((score for mark, score in likelier if mark in text), default=0) for text in texts]
    scores[list(EOS)] = 12.0
    return scores


def answer(grammar: Grammar, tokenizer: Tokenizer, scores: np.ndarray, seed: int, limit: int = 250) -> str | None:
    """Return the answer of a random model at temperature 1, or None if it does not end."""
    state, generator = grammar.start(), new_generator(seed)
    noise = np.random.default_rng(seed)
    ids: list[int] = []
    for _ in range(limit):
        row = scores + noise.normal(0, 2, WIDTH).astype(np.float32)
        allow_only(row, state.allowed())
        token_id = sample(row, SamplingParams(), generator)
        if token_id in EOS:
            return tokenizer.decode(ids)
        ids.append(token_id)
        state.accept(token_id)
    return None


def allowed_ids(state: Any) -> set[int]:
    bits = np.unpackbits(np.frombuffer(state.allowed(), dtype=np.uint8), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def after(grammar: Grammar, tokenizer: Tokenizer, text: str) -> set[int]:
    state = grammar.start()
    for token_id in tokenizer.encode(text, special=False):
        state.accept(token_id)
    return allowed_ids(state)


@pytest.mark.parametrize("name", SCHEMAS)
def test_finished_answers_validate(
    name: str, compiler: GrammarCompiler, tokenizer: Tokenizer, closing: np.ndarray
) -> None:
    schema = SCHEMAS[name]
    compiled = compiler.compile(Constraint("json_schema", json.dumps(schema), "response_format"))
    answers = [answer(compiled, tokenizer, closing, seed) for seed in range(5)]
    finished = [json.loads(text) for text in answers if text is not None]
    assert finished, "no answer ended, so none was checked"
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    for value in finished:
        validator(schema, format_checker=validator.FORMAT_CHECKER).validate(value)


def test_json_object_gives_only_objects(compiler: GrammarCompiler, tokenizer: Tokenizer, closing: np.ndarray) -> None:
    compiled = compiler.compile(Constraint("json_schema", JSON_OBJECT, "response_format"))
    texts = [answer(compiled, tokenizer, closing, seed) for seed in range(20)]
    assert all(isinstance(json.loads(text), dict) for text in texts if text is not None)
    assert sum(text is not None for text in texts) > 10


@pytest.mark.parametrize(
    ("kind", "text", "written"),
    [
        ("choice", '["yes", "no"]', "yes"),
        ("choice", '["a\\nb\\"\\\\c", "é😀"]', 'a\nb"\\c'),
        ("choice", '["<|im_end|>", "x"]', None),
        ("regex", r"\d{3}-\d{4}", "555-1234"),
        ("regex", "a/b\\/c\nd", "a/b/c\nd"),
        ("regex", r"(a|b)+$", "abba"),
        ("grammar", 'root ::= "yes" | "no" [a-z]{2}', "noxy"),
        ("grammar", 'start: "so" /[0-9]+/', "so42"),
    ],
)
def test_a_constraint_allows_the_end_only_after_its_text(
    kind: Any, text: str, written: str | None, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    compiled = compiler.compile(Constraint(kind, text, "guided"))
    assert not allowed_ids(compiled.start()) & set(EOS)
    if written is not None:
        assert set(EOS) <= after(compiled, tokenizer, written)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (r'root ::= "\x41b"', "Ab"),
        (r'root ::= "caf\u00e9"', "café"),
        (r'root ::= "caf\xe9"', "café"),
        (r'root ::= "\U0001F600"', "😀"),
        (r"root ::= [\u00e0-\u00ff]+", "éà"),
        (r"root ::= [\U0001F600-\U0001F64F]", "😀"),
        (r"root ::= [\u005B\u005D\u005C\u002d]+", "[]\\-"),
        (r'root ::= "\u0022\u005c\u002F\u000A"', '"\\/\n'),
        (r'root ::= "\\u0041"', r"\u0041"),
    ],
)
def test_escapes_of_gbnf_are_read(grammar: str, text: str, compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    """Source: llama.cpp, grammars/README.md."""
    assert set(EOS) <= after(compiler.compile(Constraint("grammar", grammar, "grammar")), tokenizer, text)


CLOSED = {"type": "object", "properties": {"a": {"type": "integer"}}}
JSON_TEXTS = [
    ("{}", True),
    ('{"a":1}', True),
    ('{ "a": 1 }', True),
    ('{\n    "a": 1\n}', True),
    ('{\n\n"a":1}', False),
    ('{  "a":1}', False),
    ('{"z":1}', False),
    ('{"a":1,"a":2}', False),
]


@pytest.mark.parametrize(("text", "is_allowed"), JSON_TEXTS)
def test_json_has_single_spaces_and_known_unique_keys(
    text: str, is_allowed: bool, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    compiled = compiler.compile(Constraint("json_schema", json.dumps(CLOSED), "response_format"))
    if is_allowed:
        assert set(EOS) <= after(compiled, tokenizer, text)
    else:
        with pytest.raises(EngineError):
            after(compiled, tokenizer, text)


@pytest.mark.parametrize(
    ("whitespace", "is_allowed"),
    [
        (" {0}", [True, True, False, False, False, False]),
        ("[ ]?", [True, True, True, False, False, False]),
        (r"[ \n\t]*", [True, True, True, True, True, True]),
    ],
)
def test_a_pattern_sets_the_whitespace_of_json(
    whitespace: str, is_allowed: list[bool], compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    constraint = Constraint("json_schema", json.dumps(CLOSED), "response_format", whitespace=whitespace)
    compiled = compiler.compile(constraint)
    for (text, _), expected in zip(JSON_TEXTS, is_allowed, strict=False):
        with nullcontext() if expected else pytest.raises(EngineError):
            assert set(EOS) <= after(compiled, tokenizer, text)


@pytest.mark.parametrize("num_properties", [600, 1000])
@pytest.mark.parametrize("more", [{}, {"additionalProperties": True}])
def test_answers_with_many_optional_properties_validate(
    num_properties: int, more: dict[str, Any], compiler: GrammarCompiler, tokenizer: Tokenizer, closing: np.ndarray
) -> None:
    properties = {f"p{index}": {"type": "integer", "maximum": 99} for index in range(num_properties)}
    schema = {"type": "object", "properties": properties, **more}
    compiled = compiler.compile(Constraint("json_schema", json.dumps(schema), "response_format"))
    after(compiled, tokenizer, '{"p1": 5,\n "p3":')
    for seed in range(3):
        if text := answer(compiled, tokenizer, closing, seed, limit=60):
            jsonschema.validate(json.loads(text), schema)


def test_a_limit_reached_during_an_answer_is_a_request_error(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    wide = "|".join(['"a"z'] * 2100)
    foreseen, late = (
        Constraint("grammar", f'root ::= {first} y\ny ::= {wide}\nz ::= "b" z | "c"\n', "grammar")
        for first in ('"ab"', "[ab]{20}")
    )
    with pytest.raises(RequestError, match="simplify it") as refused:
        compiler.compile(foreseen)
    compiled = compiler.compile(late)
    with pytest.raises(RequestError, match="simplify it") as failed:
        after(compiled, tokenizer, "ab" * 11)
    assert refused.value.code == failed.value.code == "schema_too_complex"


def test_a_panic_during_an_answer_is_an_error() -> None:
    class PanicException(BaseException): ...  # pyo3's name

    matcher = Mock()
    matcher.compute_bitmask.side_effect = matcher.consume_token.side_effect = PanicException("index")
    state = MatcherState(matcher)
    for step in (state.allowed, lambda: state.accept(1)):
        with pytest.raises(ValueError, match="index"):
            step()


def test_a_complete_grammar_allows_only_end_tokens(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    compiled = compiler.compile(Constraint("choice", '["yes"]', "guided_choice"))
    assert after(compiled, tokenizer, "yes") == set(EOS)


@pytest.mark.parametrize(("term", "tag"), [('"</think>"', "</think>"), ("<[1]>", "<|im_start|>")])
def test_reasoning_is_unconstrained_until_its_end_tag(
    term: str, tag: str, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    compiled = compiler.compile(Constraint("choice", '["yes"]', "guided_choice", after=term))
    assert len(after(compiled, tokenizer, "let me think: {")) > 40_000
    assert not after(compiled, tokenizer, "let me think") & set(EOS)
    assert after(compiled, tokenizer, f"hm.{tag}\n\nyes") == set(EOS)


def test_answers_do_not_share_the_state_of_a_grammar(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    compiled = compiler.compile(Constraint("choice", '["ab", "cd"]', "guided_choice"))
    before = allowed_ids(compiled.start())
    after(compiled, tokenizer, "ab")
    assert allowed_ids(compiled.start()) == before


def test_a_token_that_was_not_allowed_is_an_engine_error(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    state = compiler.compile(Constraint("choice", '["yes"]', "guided_choice")).start()
    with pytest.raises(EngineError, match="could not be followed"):
        state.accept(tokenizer.encode("no", special=False)[0])
    with pytest.raises(EngineError, match="could not be followed"):
        state.allowed()


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: str(case[0])[:40])
def test_an_unusable_constraint_is_refused_quickly(case: tuple[str, str, str, str], compiler: GrammarCompiler) -> None:
    kind, text, code, words = case
    compiler.compile(Constraint("choice", '["warm"]', "guided_choice"))
    started = time.perf_counter()
    with pytest.raises(RequestError, match=words) as caught:
        compiler.compile(Constraint(kind, text, "response_format"))  # type: ignore[arg-type]
    assert time.perf_counter() - started < 5  # an unbounded compile takes minutes
    assert (caught.value.code, caught.value.param) == (code, "response_format")
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message
    assert compiler.compile(Constraint("choice", '["warm"]', "guided_choice"))


def test_the_latest_compiled_grammars_are_cached(folder: Path) -> None:
    compiler = GrammarCompiler(Tokenizer.load(folder), WIDTH, EOS)
    constraints = [
        Constraint("choice", json.dumps([f"c{index}"]), "guided_choice") for index in range(MAX_COMPILED + 9)
    ]
    first = compiler.compile(constraints[0])
    assert compiler.compile(constraints[0]) is first
    for constraint in constraints[1:]:
        compiler.compile(constraint)
    assert len(compiler._compiled) == MAX_COMPILED
    assert compiler.compile(constraints[0]) is not first
    latest = compiler.compile(constraints[-1])
    assert compiler.compile(Constraint("choice", constraints[-1].text, "another_param")) is latest


def test_many_threads_share_a_compiler(folder: Path, tokenizer: Tokenizer) -> None:
    compiler = GrammarCompiler(Tokenizer.load(folder), WIDTH, EOS)
    texts = [f"word{index % 7}" for index in range(60)]

    def complete(text: str) -> bool:
        return after(compiler.compile(Constraint("choice", json.dumps([text]), "p")), tokenizer, text) == set(EOS)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(complete, texts))
