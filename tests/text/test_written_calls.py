"""The calls that a template writes, cut out of a rendered conversation."""

from __future__ import annotations

import pytest
from real_templates import chat_template

from infrs.text.chat.written import written_calls

CALLS = [("get_x", {"left": "v1"}), ("get_y", {"right": "v2"})]
# The first call alone, and both calls.
WRITTEN = {
    "qwen-3": (
        '<tool_call>\n{"name": "get_x", "arguments": {"left": "v1"}}\n</tool_call>',
        '<tool_call>\n{"name": "get_x", "arguments": {"left": "v1"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_y", "arguments": {"right": "v2"}}\n</tool_call>',
    ),
    "functionary-3.2": ('get_x\n{"left": "v1"}', 'get_x\n{"left": "v1"}>>>get_y\n{"right": "v2"}'),
    "glm-4-0414": ('get_x\n{"left": "v1"}', 'get_x\n{"left": "v1"}<|assistant|>get_y\n{"right": "v2"}'),
    "command-r7b-tool-use": (
        '<|START_THINKING|><|END_THINKING|><|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_x", '
        '"parameters": {"left": "v1"}}\n]<|END_ACTION|>',
        '<|START_THINKING|><|END_THINKING|><|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_x", '
        '"parameters": {"left": "v1"}},\n    {"tool_call_id": "1", "tool_name": "get_y", '
        '"parameters": {"right": "v2"}}\n]<|END_ACTION|>',
    ),
    "deepseek-v3": (  # arguments as a string
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_x\n```json\n{"left": "v1"}\n```'
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_x\n```json\n{"left": "v1"}\n```'
        "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_y\n```json\n"
        '{"right": "v2"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ),
    "glm-4.6": (
        "<tool_call>get_x\n<arg_key>left</arg_key>\n<arg_value>v1</arg_value>\n</tool_call>",
        "<tool_call>get_x\n<arg_key>left</arg_key>\n<arg_value>v1</arg_value>\n</tool_call>\n"
        "<tool_call>get_y\n<arg_key>right</arg_key>\n<arg_value>v2</arg_value>\n</tool_call>",
    ),
    "llama-3.1": ('{"name": "get_x", "parameters": {"left": "v1"}}', ""),  # refuses two calls
    "gpt-oss": (' to=functions.get_x<|channel|>commentary json<|message|>{"left": "v1"}<|call|>', ""),
    "phi-3": ("", ""),  # shows no calls
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_calls_are_those_of_the_template(name: str) -> None:
    template = chat_template(name)
    assert (written_calls(template, CALLS[:1]), written_calls(template, CALLS)) == WRITTEN[name]
