"""Grammars of calls that are not JSON objects: they accept what real templates write, and only calls that fit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from test_tools import read
from test_tools_grammar import EOS, follows, written
from test_tools_not_json import LOSSY, NAMES, RENDERED, WITHOUT_CALLS, rendered

from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.text.constraint import Constraint
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.call_grammar import Tool
from infrs.text.tools.formats import FORMATS, literals, tagged
from infrs.text.tools.literals.format import LiteralFormat
from infrs.text.tools.literals.notation import CallSyntax, braces
from infrs.text.tools.parser import Syntax
from infrs.text.tools.tagged.format import TaggedFormat
from infrs.text.tools.tool_format import ToolFormat, calls_constraint

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer", "minimum": -3, "maximum": 3},
        "note": {"type": ["string", "null"]},
        "kind": {"enum": ["one", "two two"]},
        "flag": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        "tree": {"$ref": "#/$defs/tree"},
        "any": {},
        "zero": {"const": 0},
    },
    "required": ["text", "count"],
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}
TOOLS = [Tool("write", "", PARAMETERS), Tool("a.b-c", "", {"type": "object", "properties": {}})]
TEXT = 'a <b> & "q" it\'s ]}) \n\n <tool \N{CJK UNIFIED IDEOGRAPH-65E5} \N{GRINNING FACE} é\n'
ARGUMENTS = {
    "text": TEXT,
    "count": -3,
    "note": None,
    "kind": "two two",
    "flag": True,
    "tags": ["x", "]"],
    "tree": {"name": "root", "children": [{"name": "leaf"}]},
    "any": {"inner": [1, {"deep": "<x>"}]},
    "zero": 0,
}
PLAIN = {"text": "New York", "count": 1}
# These templates write Python inside tags, where the grammar forces JSON.
_PYTHON_IN_TAGS = {"seed-oss", "minicpm-5"}
ENDS = {
    "qwen3_coder": "</tool_call>",
    "glm": "</tool_call>",
    "seed_oss": "</seed:tool_call>",
    "minimax_m2": "</minimax:tool_call>",
    "hunyuan3": "</tool_calls:opensource>",
    "minicpm5": "</function>",
    "olmo3": "</function_calls>",
    "lfm2": "<|tool_call_end|>",
    "gemma4": "<tool_call|>",
    "deepseek_v3.2": "function_calls>",
    "deepseek_v4": "tool_calls>",
}


@pytest.mark.parametrize("template", sorted(RENDERED.keys() - WITHOUT_CALLS - LOSSY))
def test_grammar_accepts_the_calls_that_a_real_template_writes(
    template: str, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer
) -> None:
    name = RENDERED[template]
    is_python = template in _PYTHON_IN_TAGS
    arguments = {key: value for key, value in ARGUMENTS.items() if not is_python or not isinstance(value, list | dict)}
    has_empty_line = name.startswith("deepseek") or template == "ling-3.0-flash"  # in a call without arguments
    between = [] if has_empty_line else [("a.b-c", {})]
    text = rendered(template, [("write", arguments), *between, ("write", PLAIN)])
    text = text[: text.rindex(ENDS[name]) + len(ENDS[name])]
    grammar = demo_compiler.compile(calls_constraint(FORMATS[name], TOOLS, demo_tokenizer, many=True, required=True))
    assert follows(grammar, demo_tokenizer, text)


def tags(format_name: str, arguments: dict[str, str]) -> str:
    """Return a call with tags around its arguments."""
    dialect = FORMATS[format_name]
    assert isinstance(dialect, TaggedFormat)
    of = dialect.tags
    quoted = {key: any(mark in value for mark in "<&\n") for key, value in arguments.items()}
    values = {key: value.join(of.quotes) if quoted[key] else value for key, value in arguments.items()}
    body = "".join(f"{of.key[0]}{key}{of.key[1]}{value}{of.value_end}" for key, value in values.items())
    call = f"{of.block[0]}{of.call[0]}write{of.call[1]}{body}{of.call[2]}{of.block[1]}"
    return call.replace("\n?", "\n")


TAGGED = [name for name in NAMES if isinstance(FORMATS[name], TaggedFormat)]
_SAYS_WHAT_IS_TEXT = ("deepseek", "gigachat")  # in an attribute of each argument, which `tags` does not write
BAD_TAGS: list[dict[str, str]] = [
    {"text": "x"},  # without a required argument
    {"count": "1"},
    {"text": "x", "count": "x"},
    {"text": "x", "count": "7"},
    {"text": "x", "count": "1", "kind": "three"},
    {"text": "x", "count": "1", "flag": "yes"},
    {"text": "x", "count": "1", "tags": "[1]"},
    {"text": "x", "count": "1", "tree": "{}"},
    {"text": "x", "count": "1", "unlisted": "x"},
    {"text": "x", "count": "1", "count ": "1"},
]


@pytest.mark.parametrize("name", [name for name in TAGGED if not name.startswith(_SAYS_WHAT_IS_TEXT)])
def test_tagged_arguments_fit_their_schema(
    name: str, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer
) -> None:
    grammar = demo_compiler.compile(calls_constraint(FORMATS[name], TOOLS, demo_tokenizer, many=False, required=True))
    assert follows(grammar, demo_tokenizer, tags(name, {"text": TEXT, "count": "1", "kind": "one", "flag": "false"}))
    assert [bad for bad in BAD_TAGS if follows(grammar, demo_tokenizer, tags(name, bad))] == []


@pytest.mark.parametrize(
    ("call", "is_valid"),
    [
        ('[write(text="x", count=1)]', True),
        ("[write(text='it\\'s', count=1, kind='two two', flag=True, tags=['x'], any={\"a\": [None]}, zero=0)]", True),
        ('[write(text="x", count=1, tree={"name": "r", "children": [{"name": "l", "children": []}]})]', True),
        ('[write(text="x")]', False),
        ("[write(text=x, count=1)]", False),
        ('[write(text="x", count=7)]', False),
        ('[write(text="x", count=1, kind="three")]', False),
        ('[write(text="x", count=1, flag="True")]', False),
        ('[write(text="x", count=1, tags=["a", "b", "c", "d"])]', False),
        ('[write(text="x", count=1, tree={"children": []})]', False),
        ('[write(text="x", count=1, unlisted=1)]', False),
        ("[a.b-c()]", True),
        ("[a.b-c(x=1)]", False),
    ],
)
def test_python_arguments_fit_their_schema(
    call: str, is_valid: bool, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer
) -> None:
    constraint = calls_constraint(literals.PYTHONIC, TOOLS, demo_tokenizer, many=False, required=True)
    assert follows(demo_compiler.compile(constraint), demo_tokenizer, call) == is_valid


@pytest.fixture(scope="module")
def closing(demo_tokenizer: Tokenizer) -> np.ndarray:
    """Scores of a model that likes to close what is open."""
    texts = [demo_tokenizer.decode([token_id]) for token_id in range(demo_tokenizer.vocab_size)]
    scores = np.array(
        [6.0 * any(mark in text for mark in ("</", "<|", "|>", '"', ">", ")", "]", "}")) for text in texts]
    )
    scores[list(EOS)] = 9.0
    return scores


SMALL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["one", "two"]},
        "days": {"type": "integer", "minimum": 0, "maximum": 9},
        "flag": {"type": "boolean"},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 2},
    },
    "required": ["kind", "days"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_required_calls_are_read_back(
    name: str, many: bool, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer, closing: np.ndarray
) -> None:
    tools = [Tool("small", "", SMALL, strict=True), Tool("get_time", "", {"type": "object", "properties": {}})]
    schemas = {tool.name: tool.parameters for tool in tools}
    grammar = demo_compiler.compile(calls_constraint(FORMATS[name], tools, demo_tokenizer, many=many, required=True))
    texts = [written(grammar, demo_tokenizer, closing, seed) for seed in range(4)]
    finished = [text for text in texts if text is not None]
    assert finished
    for text in finished:
        calls, content = read(FORMATS[name].parser(schemas, None, schemas), [text])
        assert content == "", text
        assert calls if many else len(calls) == 1, text
        for called, arguments in calls:
            jsonschema.validate(json.loads(arguments), schemas[called])


# The same formats with markers that are control tokens of the demo's demo_tokenizer.
CONTROL: list[tuple[ToolFormat, str]] = [
    (
        replace(
            tagged.GLM,
            tags=replace(
                tagged.GLM.tags,
                block=("<im_start|>".replace("<", "<|"), "<repo_name>"),
                key=("<file_sep>", "<filename><gh_stars>"),
                value_end="<issue_start>\n?",
                tokens=("<|im_start|>", "<repo_name>", "<file_sep>", "<filename>", "<gh_stars>", "<issue_start>"),
            ),
        ),
        "<|im_start|>write<file_sep>text<filename><gh_stars>a < b\n<issue_start>"
        "<file_sep>count<filename><gh_stars>1<issue_start><repo_name>",
    ),
    (
        LiteralFormat(
            syntax=Syntax(starts=("<|im_start|>",), ends=("<repo_name>",), inner=("<file_sep>",)),
            call=CallSyntax(braces("<file_sep>"), before="call:", is_list=False),
            frame=replace(literals.GEMMA_4.frame, before=("<|im_start|>",), after=("<repo_name>",)),
        ),
        '<|im_start|>call:write{text:<file_sep>a "b" } c<file_sep>,count:1,kind:<file_sep>one<file_sep>}<repo_name>',
    ),
]


@pytest.mark.parametrize(("tool_format", "call"), CONTROL, ids=["tagged", "braces"])
@pytest.mark.parametrize("required", [False, True])
def test_markers_can_be_control_tokens(
    tool_format: ToolFormat, call: str, required: bool, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer
) -> None:
    constraint = calls_constraint(tool_format, TOOLS, demo_tokenizer, many=False, required=required)
    state = demo_compiler.compile(constraint).start()
    for token_id in demo_tokenizer.encode(call, special=True):
        state.accept(token_id)
    assert state.allowed()[0] & 1 == 1
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    calls, content = read(tool_format.parser(schemas, None, schemas), list(call))
    assert (len(calls), content) == (1, "")
    jsonschema.validate(json.loads(calls[0][1]), PARAMETERS)


@pytest.mark.parametrize("name", NAMES)
def test_answer_without_a_call_is_allowed(name: str, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer) -> None:
    grammar = demo_compiler.compile(calls_constraint(FORMATS[name], TOOLS, demo_tokenizer, many=True, required=False))
    header = "all\n" if name == "functionary_3.2" else ""
    for plain in ("Hello, {you} < there.\n", "x = [1]\n```python\nprint(1)\n```\n"):
        assert follows(grammar, demo_tokenizer, header + plain)
        assert read(FORMATS[name].parser({"write"}), [header + plain]) == ([], plain)


OPEN: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "additionalProperties": {"type": "integer"},
}


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("qwen3_coder", "<tool_call>\n<function=f>\n<parameter=b>\n{}\n</parameter>\n</function>\n</tool_call>"),
        ("pythonic", "[f(b={})]"),
        ("gemma4", "<|tool_call>call:f{{b:{}}}<tool_call|>"),
    ],
)
def test_unlisted_arguments_are_allowed_where_the_schema_has_them(
    name: str, call: str, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer
) -> None:
    tools = [Tool("f", "", OPEN)]
    grammar = demo_compiler.compile(calls_constraint(FORMATS[name], tools, demo_tokenizer, many=False, required=True))
    assert follows(grammar, demo_tokenizer, call.format(5))
    assert not follows(grammar, demo_tokenizer, call.format("x"))


LIMITED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "note": {"type": ["string", "null"], "maxLength": 3},
    },
    "required": ["code", "note"],
}


@pytest.mark.parametrize(
    ("name", "call", "null"),
    [
        ("qwen3_coder", tags("qwen3_coder", {"code": "{}", "note": "{}"}), "null"),
        ("glm", tags("glm", {"code": "{}", "note": "{}"}), "null"),
        ("pythonic", '[write(code="{}", note="{}")]', ""),
        ("gemma4", '<|tool_call>call:write{{code:<|"|>{}<|"|>,note:<|"|>{}<|"|>}}<tool_call|>', ""),
    ],
    ids=["qwen3_coder", "glm", "pythonic", "gemma4"],
)
def test_strings_have_the_length_and_the_pattern_of_their_schema(
    name: str, call: str, null: str, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer
) -> None:
    for strict in (False, True):
        tools = [Tool("write", "", LIMITED, strict)]
        constraint = calls_constraint(FORMATS[name], tools, demo_tokenizer, many=False, required=True)
        grammar = demo_compiler.compile(constraint)
        for code, note in (("DE", "abc"), ("FR", null)):
            assert follows(grammar, demo_tokenizer, call.format(code, note))
        for code, note in (("de", "abc"), ("DEU", "abc"), ("DE", "abcd")):
            assert not follows(grammar, demo_tokenizer, call.format(code, note))


FORM = Constraint("json_schema", json.dumps({"type": "object", **OPEN, "required": ["a"]}), "response_format")


@pytest.mark.parametrize("name", NAMES)
def test_answer_is_a_call_or_structured_output(
    name: str, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer
) -> None:
    calls = calls_constraint(FORMATS[name], TOOLS, demo_tokenizer, many=True, required=True)
    grammar = demo_compiler.compile(replace(calls, or_else=FORM))
    assert follows(grammar, demo_tokenizer, '{"a": "x", "b": 1}')
    assert not follows(grammar, demo_tokenizer, '{"b": 1}')
    reader = FORMATS[name].parser({"write"})
    reader.expect_form()
    assert read(reader, ['{"a": "x", "b": 1}']) == ([], '{"a": "x", "b": 1}')


@pytest.mark.parametrize(("name", "call"), [(name, tags(name, {"text": "x", "count": "1"})) for name in TAGGED[:4]])
def test_call_next_to_structured_output(
    name: str, call: str, demo_compiler: GrammarCompiler, demo_tokenizer: Tokenizer
) -> None:
    calls = calls_constraint(FORMATS[name], TOOLS, demo_tokenizer, many=False, required=True)
    assert follows(demo_compiler.compile(replace(calls, or_else=FORM)), demo_tokenizer, call)
