"""Calls that are not JSON objects: arguments between tags or brackets, in every format."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from linear_time import is_linear
from real_templates import chat_template
from test_tools import read

from infrs.text.tools.events import Arguments, CallStart
from infrs.text.tools.formats import FORMATS, choose_format
from infrs.text.tools.json_format import JsonFormat
from infrs.text.tools.tool_format import CallReader

NAMES = [name for name, each in FORMATS.items() if not isinstance(each, JsonFormat)]
SCHEMAS: dict[str, dict[str, Any]] = {
    "write": {
        "properties": {
            "text": {"type": "string"},
            "count": {"type": "integer"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "size": {"$ref": "#/$defs/size"},
            "flag": {"type": "boolean", "nullable": True},
            "list": {"type": "array"},
            "any": {},
        },
        "additionalProperties": {"type": "string"},
        "$defs": {"size": {"enum": ["5", "6"]}},
    },
    "a.b-c": {"type": "object", "properties": {}},
}
Call = tuple[str, dict[str, Any]]


def parser(name: str, max_calls: int | None = None) -> CallReader:
    return FORMATS[name].parser(frozenset(SCHEMAS), max_calls, SCHEMAS)


def qwen(name: str, **arguments: str) -> str:
    tags = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{tags}</function>\n</tool_call>"


def glm(name: str, **arguments: str) -> str:
    tags = "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n" for key, value in arguments.items())
    return f"<tool_call>{name}\n{tags}</tool_call>"


def invoke(name: str, **arguments: str) -> str:
    tags = "".join(f'<parameter name="{key}">{value}</parameter>\n' for key, value in arguments.items())
    return f'<invoke name="{name}">\n{tags}</invoke>\n'


DSML = "\N{FULLWIDTH VERTICAL LINE}DSML\N{FULLWIDTH VERTICAL LINE}"
GCML = DSML.replace("DSML", "GCML")
MINIMAX = "<minimax:tool_call>\n", "</minimax:tool_call>"
CASES: list[tuple[str, str, list[Call], str]] = [
    ("qwen3_coder", "Just text.", [], "Just text."),
    ("qwen3_coder", qwen("a.b-c"), [("a.b-c", {})], ""),
    (
        "qwen3_coder",
        "Let me see.\n\n" + qwen("write", text="a <b>\n", count="5") + "\n" + qwen("a.b-c") + "\nDone.",
        [("write", {"text": "a <b>\n", "count": 5}), ("a.b-c", {})],
        "Let me see.Done.",
    ),
    # Strings are text, whatever they look like; other values are JSON or Python.
    ("qwen3_coder", qwen("write", text="5", size="5"), [("write", {"text": "5", "size": "5"})], ""),
    ("qwen3_coder", qwen("write", note="null"), [("write", {"note": None})], ""),
    ("qwen3_coder", qwen("write", note="nullable"), [("write", {"note": "nullable"})], ""),
    ("qwen3_coder", qwen("write", note=""), [("write", {"note": ""})], ""),
    (
        "qwen3_coder",
        qwen("write", flag="True", list="['a', None]"),
        [("write", {"flag": True, "list": ["a", None]})],
        "",
    ),
    ("qwen3_coder", qwen("write", count="many"), [("write", {"count": "many"})], ""),
    ("qwen3_coder", qwen("write", any='{"a": 1}'), [("write", {"any": {"a": 1}})], ""),
    ("qwen3_coder", qwen("write", any="text"), [("write", {"any": "text"})], ""),
    ("qwen3_coder", qwen("write", unlisted="7"), [("write", {"unlisted": "7"})], ""),
    ("qwen3_coder", qwen("write", **{'a["b"] <c': "7"}), [("write", {'a["b"] <c': "7"})], ""),
    ("glm", glm("write", **{'a["b"] > c': "7"}), [("write", {'a["b"] > c': "7"})], ""),
    # A closing tag ends a value only before another tag.
    (
        "qwen3_coder",
        qwen("write", text="</parameter>\n</parameter> <parameter> </function", count="1"),
        [("write", {"text": "</parameter>\n</parameter> <parameter> </function", "count": 1})],
        "",
    ),
    # What models leave out: the block, the line breaks, the end.
    ("qwen3_coder", "<function=write><parameter=text>x</parameter></function>", [("write", {"text": "x"})], ""),
    ("qwen3_coder", "<tool_call><function=a.b-c></tool_call>!", [("a.b-c", {})], "!"),
    ("qwen3_coder", qwen("write", text="x").split("</function>")[0], [("write", {"text": "x"})], ""),
    ("qwen3_coder", qwen("write", text="x").split("\n</function>")[0], [("write", {"text": "x"})], ""),
    # Text that only resembles a call.
    ("qwen3_coder", qwen("unknown", text="x"), [], qwen("unknown", text="x")),
    ("qwen3_coder", "<tool_call>\n<function=write", [], "<tool_call>\n<function=write"),
    ("qwen3_coder", "a <tool_call> b <function=", [], "a <tool_call> b <function="),
    ("qwen3_coder", '<tool_call>{"name": "write"}</tool_call>', [], '<tool_call>{"name": "write"}</tool_call>'),
    ("glm", glm("write", text="x\n", count="5"), [("write", {"text": "x\n", "count": 5})], ""),
    ("glm", glm("write", text="x").replace("\n", ""), [("write", {"text": "x"})], ""),
    ("glm", glm("a.b-c") + glm("a.b-c").replace("\n", "") + "Ok", [("a.b-c", {}), ("a.b-c", {})], "Ok"),
    ("glm", glm("write", text="</arg_value> <arg_key"), [("write", {"text": "</arg_value> <arg_key"})], ""),
    ("glm", "<tool_call>write is a word", [], "<tool_call>write is a word"),
    ("glm", glm("unknown"), [], glm("unknown")),
    (
        "minimax_m2",
        "Hm.\n" + MINIMAX[0] + invoke("write", text="x", list='["a"]') + invoke("a.b-c") + MINIMAX[1],
        [("write", {"text": "x", "list": ["a"]}), ("a.b-c", {})],
        "Hm.",
    ),
    ("minimax_m2", invoke("write", text="x"), [], invoke("write", text="x")),
    ("minimax_m2", MINIMAX[0] + invoke("unknown"), [], MINIMAX[0] + invoke("unknown").rstrip() + "\n"),
    (
        "seed_oss",
        "<seed:tool_call>\n<function=write>\n<parameter=text>\nx</parameter>\n</function>\n</seed:tool_call>",
        [("write", {"text": "\nx"})],
        "",
    ),
    (
        "deepseek_v3.2",
        f'\n\n<{DSML}function_calls>\n<{DSML}invoke name="write">\n'
        f'<{DSML}parameter name="count" string="true">5</{DSML}parameter>\n'
        f'<{DSML}parameter name="text" string="false">[1]</{DSML}parameter>\n'
        f'</{DSML}invoke>\n<{DSML}invoke name="a.b-c">\n\n</{DSML}invoke>\n</{DSML}function_calls>',
        [("write", {"count": "5", "text": [1]}), ("a.b-c", {})],
        "",
    ),
    (
        "deepseek_v4",
        f'<{DSML}tool_calls><{DSML}invoke name="a.b-c"></{DSML}invoke></{DSML}tool_calls>',
        [("a.b-c", {})],
        "",
    ),
    (
        "gigachat3.5",
        f'Now.<{GCML}tool_calls>\n<{GCML}invoke name="write">\n<{GCML}parameter name="text" string="true">5'
        f'</{GCML}parameter>\n<{GCML}parameter name="count" string="false">5</{GCML}parameter>\n</{GCML}invoke>\n'
        f'<{GCML}invoke name="a.b-c">\n</{GCML}invoke>\n</{GCML}tool_calls>',
        [("write", {"text": "5", "count": 5}), ("a.b-c", {})],
        "Now.",
    ),
    ("pythonic", '[write(text="x", count=1), a.b-c()]', [("write", {"text": "x", "count": 1}), ("a.b-c", {})], ""),
    ("pythonic", '<|python_start|>[write(text="x")]<|python_end|>', [("write", {"text": "x"})], ""),
    ("pythonic", "\n[write('x', 5)] write(1) is a call", [("write", {"text": "x", "count": 5})], "write(1) is a call"),
    ("pythonic", "[write(text=New York, count=-1)]", [("write", {"text": "New York", "count": -1})], ""),
    ("pythonic", '[write(text="x", a-b="y", $c="z")]', [("write", {"text": "x", "a-b": "y", "$c": "z"})], ""),
    ("pythonic", 'I call [write(text="x")]', [], 'I call [write(text="x")]'),
    ("pythonic", "[1, 2]", [], "[1, 2]"),
    ("pythonic", "[unknown(text=1)]", [], "[unknown(text=1)]"),
    ("pythonic", "[write", [], "[write"),
    (
        "lfm2",
        "Ok. <|tool_call_start|>[write(text='it\\'s ]', flag=True), a.b-c()]<|tool_call_end|>Done",
        [("write", {"text": "it's ]", "flag": True}), ("a.b-c", {})],
        "Ok.Done",
    ),
    (
        "olmo3",
        "<function_calls>\nwrite(text='a\nb')\na.b-c()\n</function_calls>",
        [("write", {"text": "a\nb"}), ("a.b-c", {})],
        "",
    ),
    ("olmo3", '<function_calls>write(text="x")</function_calls>', [("write", {"text": "x"})], ""),
    (
        "gemma4",
        '<|tool_call>call:write{count:1,text:<|"|>"a"}, b:<|"|>}<tool_call|><|tool_call>call:a.b-c{}<tool_call|>',
        [("write", {"count": 1, "text": '"a"}, b:'}), ("a.b-c", {})],
        "",
    ),
    ("gemma4", "<|tool_call>call:unknown{}<tool_call|>", [], "<|tool_call>call:unknown{}<tool_call|>"),
    (
        "function_gemma",
        "<start_function_call>call:write{text:<escape>x<escape>,count:2}<end_function_call>",
        [("write", {"text": "x", "count": 2})],
        "",
    ),
]


@pytest.mark.parametrize(("name", "text", "calls", "content"), CASES, ids=lambda value: str(value)[:30])
def test_cases(name: str, text: str, calls: list[Call], content: str) -> None:
    for size in (1, 2, 3, 7, len(text)):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        found, shown = read(parser(name), pieces)
        assert ([(called, json.loads(arguments)) for called, arguments in found], shown) == (calls, content)


@pytest.mark.parametrize(
    ("name", "text"), [case[:2] for case in CASES if case[2] and not case[3]], ids=lambda value: str(value)[:30]
)
def test_truncated_call_is_not_content(name: str, text: str) -> None:
    for end in range(1, len(text) + 1):
        for pieces in ([text[:end]], list(text[:end])):
            assert read(parser(name), pieces, cut=True)[1].strip() == ""


_TAGS = (
    "<tool_call> </tool_call> <function= </function> <parameter= </parameter> <arg_key> </arg_key> <arg_value> "
    "</arg_value> <minimax:tool_call> </minimax:tool_call> </invoke> <seed:tool_call> </seed:tool_call> "
    "<|tool_call_start|> <|tool_call_end|> <function_calls> </function_calls> <|tool_call> <tool_call|> call: write "
    "a.b-c text= text: null ( ) [ ] { } > < /"
)
_PARTS = st.sampled_from(
    [
        *_TAGS.split(),
        *('<invoke name="', '<parameter name="', '">', f"<{DSML}function_calls>", f'<{DSML}invoke name="'),
        *(f"</{DSML}invoke>", '" string="true">', '" string="false">', '<|"|>', "'", '"', ",", "\\", "\n", " ", "é"),
        *(qwen("write", text="x"), glm("write", text="x"), MINIMAX[0] + invoke("write", text="x"), "[write(text='x')"),
    ]
)


@settings(max_examples=60, deadline=None)
@example(parts=["<tool_call>", " " * 600, "<function=write>"], cuts=[300])
@example(parts=[qwen("write", text="x</parameter>"), " " * 600], cuts=[80])
@given(parts=st.lists(_PARTS | st.text(max_size=4), max_size=14), cuts=st.lists(st.integers(0, 300), max_size=12))
def test_any_text_in_any_pieces(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(borders)]
    for name in NAMES:
        calls, content = read(parser(name), [text])
        assert read(parser(name), pieces) == (calls, content)
        assert read(parser(name), list(text)) == (calls, content)
        assert read(parser(name), list(text), cut=True) == read(parser(name), [text], cut=True)
        if not calls:
            assert content == text
        assert read(parser(name, 1), list(text))[0] == calls[:1]


STREAMED = {
    "qwen3_coder": ("<tool_call>\n<function=write>\n<parameter=text>\n", "\n</parameter>\n</function>"),
    "glm": ("<tool_call>write\n<arg_key>text</arg_key>\n<arg_value>", "</arg_value>\n</tool_call>"),
    "minimax_m2": (MINIMAX[0] + '<invoke name="write">\n<parameter name="text">', "</parameter>\n</invoke>"),
    "seed_oss": ("<seed:tool_call>\n<function=write>\n<parameter=text>", "</parameter>\n</function>"),
    "minicpm5": ('<function name="write"><param name="text"><![CDATA[', "]]></param></function>"),
    "deepseek_v3.2": (
        f'<{DSML}function_calls>\n<{DSML}invoke name="write">\n<{DSML}parameter name="text" string="true">',
        f"</{DSML}parameter>\n</{DSML}invoke>",
    ),
    "pythonic": ('[write(text="', '")]'),
    "lfm2": ("<|tool_call_start|>[write(text='", "')]"),
    "olmo3": ('<function_calls>\nwrite(text="', '")\n'),
    "gemma4": ('<|tool_call>call:write{text:<|"|>', '<|"|>}'),
    "function_gemma": ("<start_function_call>call:write{text:<escape>", "<escape>}"),
}


@pytest.mark.parametrize("name", STREAMED)
def test_strings_are_streamed_as_they_grow(name: str) -> None:
    start, end = STREAMED[name]
    reader = parser(name)
    opened = reader.feed(start)
    assert opened[0] == CallStart("write")
    assert reader.feed("first line") == [
        Arguments('"first line' if opened[-1] == Arguments('{"text": ') else "first line")
    ]
    assert reader.feed("\nsecond") == [Arguments("\\nsecond")]
    assert "".join(event.text for event in reader.feed(end) if isinstance(event, Arguments)) == '"}'


@pytest.mark.parametrize("name", STREAMED)
def test_time_is_linear(name: str) -> None:
    start = STREAMED[name][0]
    units = ["x", "<", "\n", start, "</parameter>", '<|"|>']

    def work(head: str, unit: str, count: int) -> None:
        text = head + unit * count
        read(parser(name), [text[begin : begin + 5] for begin in range(0, len(text), 5)])

    for head in ("", start):
        for unit in units:
            assert is_linear(partial(work, head, unit), 4000 // len(unit)), unit


ARGUMENTS = {
    "text": 'a <b> & "q" it\'s ]}) \n\n <tool_call> \N{CJK UNIFIED IDEOGRAPH-65E5} \N{GRINNING FACE} \\n </value> é\n',
    "count": -3,
    "note": None,
    "size": "5",
    "flag": True,
    "list": ["x", "y's", "]", {"deep": ["<x>", None, 1.5]}],
    "any": {"inner": {"list": [1, {"deep": "<x>"}]}, "other": "t"},
}
PLAIN = {"text": "New York"}
# Templates that write every value as a string, or strings without quotes, or no commas; none that writes no calls.
LOSSY = {"llama-4-pythonic", "llama-3.2-pythonic", "toolace", "gemma-3-pythonic", "lfm-2.5-8b-a1b"}
WITHOUT_CALLS = {"lfm-2", "lfm-2-8b-a1b", "lfm-2.5", "lfm-2.5-instruct", "function-gemma"}
RENDERED = {
    "qwen-3-coder": "qwen3_coder",
    "qwen-3.5": "qwen3_coder",
    "qwen-3.6": "qwen3_coder",
    "qwen-3.8": "qwen3_coder",
    "nemotron-3-nano": "qwen3_coder",
    "nemotron-3-super": "qwen3_coder",
    "step-3.5-flash": "qwen3_coder",
    "glm-4.5": "glm",
    "glm-4.6": "glm",
    "glm-4.7-flash": "glm",
    "laguna-s-2.1": "glm",
    "ling-3.0-flash": "glm",
    "spark-2.5": "glm",
    "minimax-m2": "minimax_m2",
    "hunyuan-3": "hunyuan3",
    "minicpm-5": "minicpm5",
    "laguna-xs-2.1": "glm",
    "nemotron-3-ultra": "qwen3_coder",
    "nemotron-3.5-lightning": "qwen3_coder",
    "gemma-4-interleaved": "gemma4",
    "gemma-4-v5": "gemma4",
    "lfm-2.5-vl": "lfm2",
    "lfm-2-8b-a1b": "lfm2",
    "lfm-2.5-instruct": "lfm2",
    "seed-oss": "seed_oss",
    "deepseek-v3.2": "deepseek_v3.2",
    "deepseek-v4": "deepseek_v4",
    "deepseek-v4-flash": "deepseek_v4",
    "lfm-2": "lfm2",
    "lfm-2-v2": "lfm2",
    "lfm-2.5": "lfm2",
    "lfm-2.5-8b-a1b": "lfm2",
    "olmo-3.1": "olmo3",
    "gemma-4": "gemma4",
    "gemma-4-31b": "gemma4",
    "function-gemma": "function_gemma",
    "gemma-3-pythonic": "pythonic",
    "llama-3.2-pythonic": "pythonic",
    "llama-4-pythonic": "pythonic",
    "toolace": "pythonic",
}


@pytest.mark.parametrize("template", RENDERED)
def test_format_of_a_real_template_is_recognised(template: str) -> None:
    chosen = choose_format(chat_template(template))
    assert chosen is FORMATS[RENDERED[template]]


@pytest.mark.parametrize("template", sorted(RENDERED.keys() - WITHOUT_CALLS))
def test_calls_that_a_real_template_writes_are_read_back(template: str) -> None:
    arguments = PLAIN if template in LOSSY else ARGUMENTS
    calls = [("write", arguments), ("write", PLAIN), ("a.b-c", {})]
    text = rendered(template, calls)
    for pieces in ([text], list(text)):
        found, _ = read(parser(RENDERED[template]), pieces)
        assert [(name, json.loads(written)) for name, written in found] == calls


def rendered(template: str, calls: list[tuple[str, dict[str, Any]]]) -> str:
    """Return an answer with calls as a template writes it, from its first call on."""
    functions = [{"name": name, "arguments": arguments} for name, arguments in calls]
    wrapped = [{"id": f"call0000{i}", "type": "function", "function": each} for i, each in enumerate(functions)]
    messages = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "", "tool_calls": wrapped}]
    prompt = chat_template(template).render(messages, add_generation_prompt=False)
    start = "[" if RENDERED[template] == "pythonic" else FORMATS[RENDERED[template]].syntax.markers[0]
    return prompt[prompt.rindex(start, 0, prompt.index(calls[0][0])) :]
