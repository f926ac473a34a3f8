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
from tool_cases import CASES, Call

from infrs.text.tools.events import Arguments, CallStart, Content
from infrs.text.tools.formats import FORMATS, choose_format
from infrs.text.tools.json_format import JsonFormat
from infrs.text.tools.tool_format import CallReader, WrappingFormat

NAMES = frozenset({"weather", "get_time", "a.b-c"})


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
            assert content.strip("`\n") in ("", "functools"[:3][:end], "Action"[:3][:end], " ->"[:end])


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
        ("glm4", "weather\nis"),
        ("glm4", "weather\n\n[1"),
        ("glm4", "other\n{"),
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
