"""Answers in the formats with JSON arguments, with their calls and content."""

from __future__ import annotations

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
        "command_r",
        'I see.\nAction:\n```json\n[\n{"tool_name": "weather", "parameters": {"a": 1}}\n]```\n',
        [("weather", '{"a": 1}')],
        "I see.",
    ),
    (
        "gigachat3",
        'I see.<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "weather", "arguments": {"a": 1}}',
        [("weather", '{"a": 1}')],
        "I see.",
    ),
    (
        "gigachat3",
        "I see.<|message_sep|>\n\nassistant<|role_sep|>\n{}",
        [],
        "I see.<|message_sep|>\n\nassistant<|role_sep|>\n{}",
    ),
    (
        "hyperclovax",
        ' -> tool/function_call\n[{"name": "weather", "arguments": {}}, {"name": "get_time", "arguments": {}}]',
        [("weather", "{}"), ("get_time", "{}")],
        "",
    ),
    ("hyperclovax", "a -> tool/function", [], "a -> tool/function"),
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
    ("glm4", f"weather\n{WEATHER}", [("weather", WEATHER)], ""),
    ("glm4", f"\nweather \n\n{WEATHER}\n", [("weather", WEATHER)], ""),
    (
        "glm4",
        '\nI look.<|assistant|>weather\n{"a": 1}<|assistant|>get_time\n{}<|assistant|>\nDone.',
        [("weather", '{"a": 1}'), ("get_time", "{}")],
        "\nI look.<|assistant|>\nDone.",
    ),
    ("glm4", 'weather\n{"a": 1', [("weather", '{"a": 1')], ""),
    ("glm4", "weather\nis a word {}", [], "weather\nis a word {}"),
    ("glm4", 'weather {"a": 1}', [], 'weather {"a": 1}'),
    ("glm4", 'other\n{"a": 1}', [], 'other\n{"a": 1}'),
    ("glm4", "\nHello.\n", [], "\nHello.\n"),
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
