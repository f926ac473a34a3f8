"""What a grammar of calls lets through, the format's own parser reads: proved on the masks of a real vocabulary."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from text_calls import is_bare, text_of

from infrs.core import Grammar
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.errors import EngineError, RequestError
from infrs.text.constraint import Constraint
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.call_grammar import Tool
from infrs.text.tools.events import Arguments, CallStart, Content, Event
from infrs.text.tools.formats import FORMATS
from infrs.text.tools.formats.harmony import Harmony
from infrs.text.tools.json_format import JsonFormat
from infrs.text.tools.tool_format import calls_constraint, framed

JSON_FORMATS = [name for name, each in FORMATS.items() if isinstance(each, JsonFormat | Harmony)]
WIDTH = 49_152
EOS = (0, 2)
CITY = {
    "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [Tool("weather", "", CITY, strict=True), Tool("get_time", "", {"type": "object", "properties": {}})]


@pytest.fixture(scope="module")
def tokenizer(demo_text: Path) -> Tokenizer:
    return Tokenizer.load(demo_text)


@pytest.fixture(scope="module")
def compiler(demo_text: Path) -> GrammarCompiler:
    return GrammarCompiler(Tokenizer.load(demo_text), WIDTH, EOS)


@pytest.mark.parametrize("name", ["hermes", "glm"])
@pytest.mark.parametrize("strict", [False, True])
def test_whitespace_of_a_tool_stands_between_the_tokens_of_its_arguments(
    name: str, strict: bool, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    pairs = {"type": "array", "items": {"type": "integer"}}
    tool = Tool("f", "", {"properties": {"a": pairs}, "required": ["a"]}, strict)
    texts = {
        "hermes": '<tool_call>\n{"name": "f", "arguments": {"a":@[1,@2]}}\n</tool_call>',
        "glm": "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>[1,@2]</arg_value>\n</tool_call>",
    }
    for pattern, allowed in (("", ["", " "]), (" {0}", [""]), (r"[ \t]{2}", ["", "\t "])):
        tools = [replace(tool, whitespace=pattern)]
        grammar = compiler.compile(calls_constraint(FORMATS[name], tools, tokenizer, many=False, required=True))
        for space in ("", " ", "\t "):
            fits = follows(grammar, tokenizer, texts[name].replace("@", space))
            assert fits == (space in allowed), (pattern, space)


@pytest.fixture(scope="module")
def closing(tokenizer: Tokenizer) -> np.ndarray:
    texts = [tokenizer.decode([token_id]) for token_id in range(tokenizer.vocab_size)]
    scores = np.array([8.0 if '"' in text else 4.0 * ("}" in text or "]" in text) for text in texts])
    scores[list(EOS)] = 6.0
    return scores


def written(grammar: Grammar, tokenizer: Tokenizer, closing: np.ndarray, seed: int) -> str | None:
    """What a random model answers; None if it does not end."""
    state, generator = grammar.start(), np.random.default_rng(seed)
    ids: list[int] = []
    while len(ids) < 200:
        bits = np.unpackbits(np.frombuffer(state.allowed(), dtype=np.uint8), bitorder="little", count=WIDTH)
        scores = np.where(bits, closing + generator.gumbel(0, 2, WIDTH), -np.inf)
        token_id = int(scores.argmax())
        if token_id in EOS:
            return tokenizer.decode(ids)
        ids.append(token_id)
        state.accept(token_id)
    return None


def follows(grammar: Grammar, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is a whole answer by the grammar."""
    state = grammar.start()
    try:
        for token_id in tokenizer.encode(text, special=False):
            state.accept(token_id)
    except EngineError:
        return False
    return state.allowed()[0] & 1 == 1


@pytest.mark.parametrize("name", JSON_FORMATS)
def test_a_call_may_be_made_but_only_with_arguments_that_fit(
    name: str, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    grammar = compiler.compile(calls_constraint(FORMATS[name], TOOLS, tokenizer, many=False, required=False))
    right, wrong = (
        text_of(FORMATS[name], [("weather", f'{{"city": {city}}}')], alone=True) for city in ('"Bonn"', "1")
    )
    assert follows(grammar, tokenizer, right)
    assert not follows(grammar, tokenizer, wrong)
    before = "<|channel|>commentary<|message|>Yes.<|end|><|start|>assistant" if name == "harmony" else "Yes. "
    assert follows(grammar, tokenizer, before + right)
    assert follows(grammar, tokenizer, before + wrong) == is_bare(FORMATS[name])  # such a call is text
    for plain in ("Hello, {you} < there.\n", "x = [1]\n```python\nprint(1)\n```\n"):
        assert follows(grammar, tokenizer, plain)
        assert not [event for event in read(name, plain) if isinstance(event, CallStart)]


def read(name: str, text: str) -> list[Event]:
    parser = FORMATS[name].parser(frozenset(tool.name for tool in TOOLS), None)
    return [*parser.feed(text), *parser.flush()]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", JSON_FORMATS)
def test_required_calls_are_read_back(
    name: str, many: bool, compiler: GrammarCompiler, tokenizer: Tokenizer, closing: np.ndarray
) -> None:
    grammar = compiler.compile(calls_constraint(FORMATS[name], TOOLS, tokenizer, many=many, required=True))
    texts = [written(grammar, tokenizer, closing, seed) for seed in range(4)]
    finished = [text for text in texts if text is not None]
    assert finished
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    for text in finished:
        events = read(name, text)
        calls = [event.name for event in events if isinstance(event, CallStart)]
        assert len(calls) >= 1 if many else len(calls) == 1, text
        assert all(isinstance(event, CallStart | Arguments) for event in events), text
        pieces = [event.text if isinstance(event, Arguments) else "\0" for event in events]
        for call, arguments in zip(calls, "".join(pieces).split("\0")[1:], strict=True):
            jsonschema.validate(json.loads(arguments), schemas[call])


FORM = Constraint("json_schema", json.dumps({"type": "object", **CITY}), "response_format")


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", JSON_FORMATS)
def test_answer_is_a_call_or_structured_output(
    name: str, many: bool, compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    calls = calls_constraint(FORMATS[name], TOOLS, tokenizer, many=many, required=True)
    if is_bare(FORMATS[name]) and (name == "llama3" or not many):  # a call is a bare object, as is the form
        with pytest.raises(RequestError, match="begin like") as refused:
            compiler.compile(replace(calls, or_else=FORM))
        assert refused.value.param == "response_format"
        return
    grammar = compiler.compile(replace(calls, or_else=FORM))
    call = text_of(FORMATS[name], [("weather", '{"city": "Bonn"}')], alone=not many)
    assert follows(grammar, tokenizer, call)
    assert follows(grammar, tokenizer, '{"city": "Bonn", "days": 3}')
    for neither in ('{"city": 1}', call.replace('"Bonn"', "1"), "Hello.", f"Yes. {call}", '{"city": "Bonn"} ' + call):
        assert not follows(grammar, tokenizer, neither)


NOTE = "<|channel|>analysis<|message|>Hm, {.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"


@pytest.mark.parametrize("tools", [(), TOOLS])
def test_structured_output_of_harmony_is_in_the_final_channel(
    tools: list[Tool], compiler: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    constraint = framed(FORMATS["harmony"], FORM, tools, tokenizer)
    grammar = compiler.compile(constraint)
    form = '{"city": "Bonn"}'
    for text in (FINAL + form, NOTE + FINAL + form, NOTE + NOTE.replace("analysis", "commentary") + FINAL + form):
        assert follows(grammar, tokenizer, text)
    for text in (form, NOTE, FINAL + "Hello.", NOTE + FINAL + '{"city": 1}', NOTE + form, FINAL + form + NOTE):
        assert not follows(grammar, tokenizer, text)
    call = text_of(FORMATS["harmony"], [("weather", '{"city": "Bonn"}')])
    assert follows(grammar, tokenizer, NOTE + call) == bool(tools)
    assert framed(FORMATS["hermes"], FORM, tools, tokenizer) == FORM


@pytest.mark.parametrize("name", JSON_FORMATS)
def test_structured_output_is_not_a_call(name: str) -> None:
    parser = FORMATS[name].parser(frozenset({"weather"}), None)
    parser.expect_form()
    text = '{"name": "weather", "city": "Bonn", "arguments": {"city": "Bonn"}}'
    events = [event for character in text for event in parser.feed(character)] + parser.flush()
    assert "".join(event.text for event in events if isinstance(event, Content)) == text
    assert not [event for event in events if isinstance(event, CallStart)]


def test_invalid_format_is_named_in_the_error(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    calls = calls_constraint(FORMATS["hermes"], TOOLS, tokenizer, many=True, required=True)
    form = Constraint("json_schema", '{"not": {}}', "response_format")
    with pytest.raises(RequestError, match="not supported") as refused:
        compiler.compile(replace(calls, or_else=form))
    assert refused.value.param == "response_format"
