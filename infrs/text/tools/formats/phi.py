"""Phi-4-mini: `<|tool_call|>`, a list of calls and `<|/tool_call|>`; some answers write `functools` instead."""

from __future__ import annotations

from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import ToolFormat

FORMAT = ToolFormat(
    signs=("<|tool|>", "<|tool_call|>"),
    syntax=Syntax(starts=("<|tool_call|>", "functools"), ends=("<|/tool_call|>",)),
    before=("<|tool_call|>", "["),
    between=(", ",),
    after=("]", "<|/tool_call|>"),
)
