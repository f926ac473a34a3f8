"""Formats with calls that are JSON objects between markers."""

from __future__ import annotations

from infrs.text.tools.call_grammar import Frame
from infrs.text.tools.json_format import JsonFormat
from infrs.text.tools.json_parser import NAME, Head
from infrs.text.tools.parser import Syntax

# Mistral and Ministral: a list of calls, or since 2025 `[TOOL_CALLS]name[ARGS]{...}` each.
MISTRAL = JsonFormat(
    signs=("[TOOL_CALLS]",),
    syntax=Syntax(starts=("[TOOL_CALLS]",), inner=("[ARGS]", "[CALL_ID]")),
    frame=Frame(before=("[TOOL_CALLS]", " ["), between=(", ",), after=("]",)),
    head=Head(named=rf"\s*{NAME}\s*(?:\[CALL_ID\]\w{{0,64}})?\s*(?:\[ARGS\])?\s*"),
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
