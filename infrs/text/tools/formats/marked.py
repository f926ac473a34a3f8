"""Formats with calls that are JSON objects between markers."""

from __future__ import annotations

from infrs.text.tools.call_grammar import Frame, Lark
from infrs.text.tools.json_format import NAME, JsonFormat
from infrs.text.tools.json_parser import NAME_PATTERN, Head
from infrs.text.tools.parser import Syntax

# Mistral and Ministral: a list of calls, or since 2025 `[TOOL_CALLS]name[ARGS]{...}` each.
MISTRAL = JsonFormat(
    signs=("[TOOL_CALLS]",),
    syntax=Syntax(starts=("[TOOL_CALLS]",), inner=("[ARGS]", "[CALL_ID]")),
    frame=Frame(before=("[TOOL_CALLS]", " ["), between=(", ",), after=("]",)),
    head=Head(named=rf"\s*{NAME_PATTERN}\s*(?:\[CALL_ID\]\w{{0,64}})?\s*(?:\[ARGS\])?\s*"),
)
# Hermes, Qwen 2.5 and 3, Granite 4, SmolLM3: each call in a block of its own.
HERMES = JsonFormat(
    signs=("<tool_call>",),
    syntax=Syntax(starts=("<tool_call>",), ends=("</tool_call>",)),
    frame=Frame(
        before=("<tool_call>", "\n"),
        between=("\n", "</tool_call>", "\n", "<tool_call>", "\n"),
        after=("\n", "</tool_call>"),
    ),
)
# Granite 3: a list of calls; 3.0 has another marker.
GRANITE = JsonFormat(
    signs=("<|start_of_role|>",),
    syntax=Syntax(starts=("<|tool_call|>", "<tool_call>", "<function_call>"), ends=("</tool_call>",)),
    frame=Frame(before=("<|tool_call|>", "["), between=(", ",), after=("]",)),
)
# Phi-4-mini: a list of calls; some answers write `functools` in the place of the marker.
PHI = JsonFormat(
    signs=("<|tool|>", "<|tool_call|>"),
    syntax=Syntax(starts=("<|tool_call|>", "functools"), ends=("<|/tool_call|>",)),
    frame=Frame(before=("<|tool_call|>", "["), between=(", ",), after=("]", "<|/tool_call|>")),
)
# Firefunction 2.
FIREFUNCTION = JsonFormat(
    signs=("functools[",),
    syntax=Syntax(starts=("functools",)),
    frame=Frame(before=("functools", "["), between=(", ",), after=("]",)),
)
# Nemotron: a list of calls.
NEMOTRON = JsonFormat(
    signs=("<TOOLCALL>",),
    syntax=Syntax(starts=("<TOOLCALL>",), ends=("</TOOLCALL>",)),
    frame=Frame(before=("<TOOLCALL>", "["), between=(", ",), after=("]", "</TOOLCALL>")),
)
# Hunyuan, Jamba, Apriel and MiniMax M1: a list of calls, or calls in lines.
TOOL_CALLS = JsonFormat(
    signs=("<tool_calls>",),
    syntax=Syntax(starts=("<tool_calls>",), ends=("</tool_calls>",)),
    frame=Frame(before=("<tool_calls>", "["), between=(", ",), after=("]", "</tool_calls>")),
)
# InternLM 2 and 2.5.
INTERNLM = JsonFormat(
    signs=("<|action_start|>",),
    syntax=Syntax(
        starts=("<|action_start|><|plugin|>",), ends=("<|action_end|>",), inner=("<|action_start|>", "<|plugin|>")
    ),
    frame=Frame(
        before=("<|action_start|>", "<|plugin|>", "\n"),
        between=("<|action_end|>", "<|action_start|>", "<|plugin|>", "\n"),
        after=("<|action_end|>",),
    ),
)
# Apertus: the name is the key of the arguments.
APERTUS = JsonFormat(
    signs=("<|tools_prefix|>",),
    syntax=Syntax(starts=("<|tools_prefix|>",), ends=("<|tools_suffix|>",)),
    frame=Frame(before=("<|tools_prefix|>", "["), between=(", ",), after=("]", "<|tools_suffix|>")),
    head=Head(name_key=""),
    opening=(f'{{"{NAME}": ',),
)
# Command R7B and Command A.
COMMAND = JsonFormat(
    signs=("<|START_ACTION|>",),
    syntax=Syntax(starts=("<|START_ACTION|>",), ends=("<|END_ACTION|>",)),
    frame=Frame(before=("<|START_ACTION|>", "[\n    "), between=(",\n    ",), after=("\n]", "<|END_ACTION|>")),
    head=Head(name_key="tool_name", id_key="tool_call_id"),
    opening=('{"tool_call_id": "', Lark("/[0-9]{1,2}/"), f'", "tool_name": "{NAME}", "parameters": '),
)
# Command R: `Action:` and a list of calls in a fence.
_ACTIONS = ("Action: ```json", "Action:```json", "Action:\n```json")
COMMAND_R = JsonFormat(
    signs=_ACTIONS,
    syntax=Syntax(starts=_ACTIONS, ends=("```",)),
    frame=Frame(before=("Action: ```json", "\n[\n    "), between=(",\n    ",), after=("\n]", "```")),
    head=Head(name_key="tool_name"),
    opening=(f'{{\n        "tool_name": "{NAME}",\n        "parameters": ',),
    closing=("\n    }",),
)
# GigaChat 3: a call is a message of its own, behind that of the assistant, which can be empty.
_FUNCTION_CALL = ("<|message_sep|>", "\n\nfunction call", "<|role_sep|>", "\n")
GIGACHAT_3 = JsonFormat(
    signs=("function call<|role_sep|>",),
    syntax=Syntax(starts=("".join(_FUNCTION_CALL),), inner=("<|message_sep|>", "<|role_sep|>")),
    frame=Frame(before=_FUNCTION_CALL, between=_FUNCTION_CALL),
)
# HyperCLOVA X SEED Think 14B: a list of calls behind the role, which the generation prompt leaves open.
HYPERCLOVA_X = JsonFormat(
    signs=("-> tool/function_call",),
    syntax=Syntax(starts=(" -> tool/function_call\n",)),
    frame=Frame(before=(" -> tool/function_call\n", "["), between=(", ",), after=("]",)),
)
