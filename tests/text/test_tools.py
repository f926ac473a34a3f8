"""Tool calls read from streams of text in every format."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from linear_time import is_linear
from text_calls import text_of
from text_templates import GEMMA, LLAMA_3, LLAMA_3_2, MISTRAL, PHI_3, QWEN_2_5

from infrs.text.tools.events import Arguments, CallStart, Content
from infrs.text.tools.formats import FORMATS, choose_format
from infrs.text.tools.json_format import JsonFormat
from infrs.text.tools.tool_format import CallReader, WrappingFormat

NAMES = frozenset({"weather", "get_time", "a.b-c"})
WEATHER = '{"city": "São \\"Paulo\\" }{", "days": [1, {"n": 2}]}'
# Markers of DeepSeek.
DEEPSEEK = {
    name: f"<\uff5ctool\u2581{words}\uff5c>"
    for name, words in {
        "calls": "calls\u2581begin",
        "call": "call\u2581begin",
        "sep": "sep",
        "call_end": "call\u2581end",
        "calls_end": "calls\u2581end",
    }.items()
}

# What an answer says, and its calls and content.
Call = tuple[str, str]
CASES: list[tuple[str, str, list[Call], str]] = [
    ("hermes", "Just text.", [], "Just text."),
    (
        "hermes",
        f'<tool_call>\n{{"name": "weather", "arguments": {WEATHER}}}\n</tool_call>',
        [("weather", WEATHER)],
        "",
    ),
    (
        "hermes",
        'Let me see.\n\n<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>\n<tool_call>\n'
        '{"name": "get_time", "arguments": {"z": 1}}\n</tool_call>',
        [("weather", "{}"), ("get_time", '{"z": 1}')],
        "Let me see.",
    ),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {}}</tool_call>\nDone.',
        [("weather", "{}")],
        "Done.",
    ),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"a": 1', [("weather", '{"a": 1')], ""),
    ("hermes", '{"name": "weather", "arguments": {}}', [], '{"name": "weather", "arguments": {}}'),
    (
        "hermes",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        [],
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
    ),
    ("hermes", "a <tool_call> b <tool", [], "a <tool_call> b <tool"),
    ("hermes", '<tool_call>{"city": "x"}</tool_call>', [], '<tool_call>{"city": "x"}</tool_call>'),
    ("hermes", '<tool_call>{"name": "weather"', [], '<tool_call>{"name": "weather"'),
    ("hermes", '<tool_call>{"name": "get_time"}</tool_call>', [("get_time", "{}")], ""),
    (
        "hermes",
        '<tool_call>{"arguments": {"a": 1}, "name": "weather"}</tool_call>',
        [("weather", '{"a": 1}')],
        "",
    ),
    (
        "hermes",
        '<tool_call>{"type": "function", "function": {"name": "weather", "arguments": "{\\"a\\": 1}"}}</tool_call>',
        [("weather", '{"a": 1}')],
        "",
    ),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {}, "id": "}"}</tool_call>!', [("weather", "{}")], "!"),
    ("llama3", '{"name": "weather", "parameters": {"a": 1}}', [("weather", '{"a": 1}')], ""),
    ("llama3", '<|python_tag|>{"name": "weather", "parameters": {}}', [("weather", "{}")], ""),
    (
        "llama3",
        '\n{"name": "weather", "parameters": {}}; {"name": "get_time", "parameters": {}}',
        [("weather", "{}"), ("get_time", "{}")],
        "",
    ),
    ("llama3", 'No: {"name": "weather", "parameters": {}}', [], 'No: {"name": "weather", "parameters": {}}'),
    ("llama3", '{"answer": 42}\n', [], '{"answer": 42}\n'),
    ("llama3", "[1, 2]", [], "[1, 2]"),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"a": 1}}, {"name": "get_time", "arguments": {}}]',
        [("weather", '{"a": 1}'), ("get_time", "{}")],
        "",
    ),
    (
        "mistral",
        '[TOOL_CALLS]weather[ARGS]{"a": 1}[TOOL_CALLS]get_time[CALL_ID]x1[ARGS]{}',
        [("weather", '{"a": 1}'), ("get_time", "{}")],
        "",
    ),
    ("mistral", '[TOOL_CALLS]nothing{"a": 1}', [], '[TOOL_CALLS]nothing{"a": 1}'),
    ("granite", '<|tool_call|>[{"name": "weather", "arguments": {}}]', [("weather", "{}")], ""),
    ("granite", '<tool_call>[{"name": "a.b-c", "arguments": {}}]', [("a.b-c", "{}")], ""),
    ("phi", '<|tool_call|>[{"name": "weather", "arguments": {}}]<|/tool_call|>', [("weather", "{}")], ""),
    ("phi", 'functools[{"name": "weather", "arguments": {}}]', [("weather", "{}")], ""),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"a": 1}, "id": "abcdefghi"}]',
        [("weather", '{"a": 1}')],
        "",
    ),
    (
        "deepseek_v3",
        f'Yes.\n{DEEPSEEK["calls"]}{DEEPSEEK["call"]}function{DEEPSEEK["sep"]}weather\n```json\n{{"a": "`}}"}}\n```'
        f'{DEEPSEEK["call_end"]}\n{DEEPSEEK["call"]}function{DEEPSEEK["sep"]}get_time\n```json\n{{}}\n```'
        f'{DEEPSEEK["call_end"]}{DEEPSEEK["calls_end"]}',
        [("weather", '{"a": "`}"}'), ("get_time", "{}")],
        "Yes.",
    ),
    (
        "deepseek_v3.1",
        f'{DEEPSEEK["calls"]}{DEEPSEEK["call"]}weather{DEEPSEEK["sep"]}{{"a": 1}}{DEEPSEEK["call_end"]}'
        f'{DEEPSEEK["call"]}get_time{DEEPSEEK["sep"]}{{}}{DEEPSEEK["call_end"]}{DEEPSEEK["calls_end"]}\nOk',
        [("weather", '{"a": 1}'), ("get_time", "{}")],
        "Ok",
    ),
    (
        "kimi",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
        '{"a": 1}<|tool_call_end|><|tool_call_begin|>get_time:11<|tool_call_argument_begin|>{}<|tool_call_end|>'
        "<|tool_calls_section_end|>",
        [("weather", '{"a": 1}'), ("get_time", "{}")],
        "",
    ),
    (
        "command",
        'I see.<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "weather", "parameters": {"a": 1}},\n    '
        '{"tool_name": "get_time", "parameters": {}}\n]<|END_ACTION|>',
        [("weather", '{"a": 1}'), ("get_time", "{}")],
        "I see.",
    ),
    (
        "command_r",
        'Action: ```json\n[\n    {\n        "tool_name": "weather",\n        "parameters": {"a": 1}\n    }\n]```',
        [("weather", '{"a": 1}')],
        "",
    ),
    (
        "nemotron",
        '<TOOLCALL>[{"name": "weather", "arguments": {}}, {"name": "get_time", "arguments": {}}]</TOOLCALL>',
        [("weather", "{}"), ("get_time", "{}")],
        "",
    ),
    ("tool_calls", '<tool_calls>\n{"name": "weather", "arguments": {}}\n</tool_calls>', [("weather", "{}")], ""),
    (
        "internlm",
        'Ok<|action_start|><|plugin|>\n{"name": "weather", "parameters": {}}<|action_end|>',
        [("weather", "{}")],
        "Ok",
    ),
    (
        "apertus",
        '<|tools_prefix|>[{"weather": {"name": "x"}}, {"a.b-c": {}}]<|tools_suffix|>',
        [("weather", '{"name": "x"}'), ("a.b-c", "{}")],
        "",
    ),
    ("apertus", '<|tools_prefix|>[{"name": {}}]', [], '<|tools_prefix|>[{"name": {}}]'),
    (
        "functionary",
        '<function=weather>{"a": 1}</function><function=get_time>{}</function>',
        [("weather", '{"a": 1}'), ("get_time", "{}")],
        "",
    ),
    ("functionary", "if a <function=b> {", [], "if a <function=b> {"),
    (
        "functionary_3.2",
        'weather\n{"a": 1}>>>get_time\n{}',
        [("weather", '{"a": 1}'), ("get_time", "{}")],
        "",
    ),
    ("functionary_3.2", 'all\nI look.\n>>>weather\n{"a": 1}', [("weather", '{"a": 1}')], "I look."),
    ("functionary_3.2", "all\nall\nx >>> y\n", [], "all\nx >>> y\n"),
    ("functionary_3.2", 'other\n{"a": 1}', [], 'other\n{"a": 1}'),
    ("harmony", "Hello <b>.", [], "Hello <b>."),
    ("harmony", "<|channel|>final<|message|>Hello.<|return|>", [], "Hello."),
    ("harmony", "<|start|>assistant<|channel|>final<|message|>Hello < x<|", [], "Hello < x<|"),
    (
        "harmony",
        '<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.weather '
        '<|constrain|>json<|message|>{"a": 1}<|call|>',
        [("weather", '{"a": 1}')],
        "I look.",
    ),
    (
        "harmony",
        ' to=functions.weather<|channel|>commentary json<|message|>{"a": 1}<|call|><|start|>assistant to=a.b-c'
        "<|channel|>commentary<|message|>{}",
        [("weather", '{"a": 1}'), ("a.b-c", "{}")],
        "",
    ),
    (
        "harmony",
        "<|channel|>commentary to=browser.open<|message|>{}<|call|>",
        [],
        "<|channel|>commentary to=browser.open<|message|>{}",
    ),
    ("gemma", '```json\n{"name": "weather", "parameters": {}}\n```', [("weather", "{}")], ""),
    ("gemma", '{"name": "weather", "parameters": {}}', [("weather", "{}")], ""),
    ("gemma", "```python\nprint({})\n```", [], "```python\nprint({})\n```"),
    (
        "generic",
        '[{"name": "weather", "arguments": {}}, {"name": "get_time"}]',
        [("weather", "{}"), ("get_time", "{}")],
        "",
    ),
    ("generic", '```tool_call\n{"name": "weather", "arguments": {}}\n```\nOk', [("weather", "{}")], "Ok"),
    ("generic", '<tool_call>{"name": "weather", "arguments": {}}</tool_call>', [("weather", "{}")], ""),
]  # fmt: skip


def read(parser: CallReader, pieces: list[str], *, cut: bool = False) -> tuple[list[Call], str]:
    calls: list[list[str]] = []
    content = ""
    for event in [*(event for piece in pieces for event in parser.feed(piece)), *parser.flush(cut=cut)]:
        match event:
            case Content(text):
                assert text
                content += text
            case CallStart(name):
                calls.append([name, ""])
            case Arguments(text):
                assert text
                calls[-1][1] += text
    return [(name, arguments) for name, arguments in calls], content


@pytest.mark.parametrize(("name", "text", "calls", "content"), CASES, ids=lambda value: str(value)[:30])
def test_cases(name: str, text: str, calls: list[Call], content: str) -> None:
    for size in (1, 2, 3, 7, len(text)):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert read(FORMATS[name].parser(NAMES, None), pieces) == (calls, content)


_PARTS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "<|tool_call|>",
        "<|/tool_call|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "functools",
        "<|python_tag|>",
        "```",
        "```json",
        '{"name": "weather", "arguments": {"a": "b}"}}',
        '{"name": "weather", "parameters": {}}',
        "<|channel|>",
        "<|message|>",
        "<|call|>",
        "to=functions.weather",
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        "<|tools_prefix|>",
        '{"weather": {}}',
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<function=weather>",
        "</function>",
        '{"name": "nobody", "arguments": {}}',
        '{"arguments": {"a": [1]}, "name": "get_time"}',
        '{"name": "weather",',
        '"arguments": {',
        '{"x": 1}',
        "weather",
        "{", "}", "[", "]", '"', "\\", ",", ";", " ", "\n", ":", "é", "😀", "text",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@example(parts=["[TOOL_CALLS]", "a" * 200, "{"], cuts=[5, 170])
@example(parts=['{"name"', " " * 600, ': "weather", "arguments": {}}'], cuts=[100])
@given(parts=st.lists(_PARTS | st.text(max_size=4), max_size=14), cuts=st.lists(st.integers(0, 300), max_size=12))
def test_any_text_in_any_pieces(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(borders)]
    for tool_format in FORMATS.values():
        calls, content = read(tool_format.parser(NAMES, None), [text])
        assert read(tool_format.parser(NAMES, None), pieces) == (calls, content)
        assert read(tool_format.parser(NAMES, None), list(text)) == (calls, content)
        if not calls and not isinstance(tool_format, WrappingFormat):
            assert content == text
        first = read(tool_format.parser(NAMES, 1), list(text))[0]
        assert first == calls[:1]


@pytest.mark.parametrize(
    ("name", "text"), [case[:2] for case in CASES if case[2] and not case[3]], ids=lambda value: str(value)[:30]
)
def test_truncated_call_is_not_content(name: str, text: str) -> None:
    for end in range(1, len(text) + 1):
        for pieces in ([text[:end]], list(text[:end])):
            _, content = read(FORMATS[name].parser(NAMES, None), pieces, cut=True)
            assert content.strip("`\n") in ("", "functools"[:3][:end], "Action"[:3][:end])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", "a <b"),
        ("hermes", '{"name": "weather"'),
        ("llama3", '{"name": "Bob", "arg'),
        ("llama3", '{"type": "object", "name'),
        ("generic", "Say `"),
        ("generic", "```python\nprint"),
        ("generic", '```json\n{"city": "Bo'),
        ("generic", "[1"),
        ("phi", "import functools\nx = 1"),
        ("phi", "if"),
    ],
)
def test_truncated_text_without_a_call_is_content(name: str, text: str) -> None:
    assert read(FORMATS[name].parser(NAMES, None), list(text), cut=True) == ([], text)


@pytest.mark.parametrize(("name", "text"), [("command_r", "Act"), ("phi", "fu"), ("generic", "``"), ("hermes", "<")])
@pytest.mark.parametrize("forced", [True, False])
def test_start_of_a_marker_is_a_call_only_if_an_answer_must_be_calls(name: str, text: str, forced: bool) -> None:
    """Except for a bracket, which is rarely text."""
    parser = FORMATS[name].parser(NAMES, None)
    if forced:
        parser.expect_call()
    assert read(parser, list(text), cut=True)[1] == ("" if forced else text.replace("<", ""))


@pytest.mark.parametrize("name", [name for name, each in FORMATS.items() if isinstance(each, JsonFormat)])
def test_arguments_are_streamed_as_they_grow(name: str) -> None:
    parser = FORMATS[name].parser(NAMES, None)
    opening = text_of(FORMATS[name], [("weather", "{}")]).partition("{}")[0]
    assert parser.feed(opening + '{"ci') == [CallStart("weather"), Arguments('{"ci')]
    assert parser.feed('ty": "Par') == [Arguments('ty": "Par')]
    assert parser.feed('is"}') == [Arguments('is"}')]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "unit", ["<tool_call>", "<tool_call>{", "{", "\n", '{"name": ', '"\\', "```", "<", "[TOOL_CALLS]a"]
)
def test_time_is_linear(name: str, unit: str) -> None:
    def work(count: int) -> None:
        text = unit * count
        calls, content = read(FORMATS[name].parser(NAMES, None), [text[i : i + 5] for i in range(0, len(text), 5)])
        assert (calls, content) == ([], text)

    assert is_linear(work, 1000)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (QWEN_2_5 + "<tool_call>", "hermes"),
        (LLAMA_3, "llama3"),
        (LLAMA_3_2, "llama3"),
        (MISTRAL + "[TOOL_CALLS]", "mistral"),
        (GEMMA, "gemma"),
        (PHI_3 + "<|tool|>", "phi"),
        ("<|start_of_role|>assistant<|end_of_role|><|tool_call|>", "granite"),
        ("{{ messages }}", "generic"),
    ],
)
def test_tool_format_is_detected_from_the_template(template: str, name: str) -> None:
    assert choose_format(template) is FORMATS[name]
    assert choose_format(template, "mistral") is FORMATS["mistral"]


def test_whole_arguments_are_json() -> None:
    text = '<tool_call>{"arguments": {"a": "\\ud800", "b": 1e3}, "name": "weather"}</tool_call>'
    calls, _ = read(FORMATS["hermes"].parser(NAMES, None), [text])
    value: Any = json.loads(calls[0][1])
    assert value["b"] == 1000
    assert calls[0][1].encode()
