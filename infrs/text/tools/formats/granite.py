"""Granite 3: `<|tool_call|>`, in 3.0 `<function_call>`, and a list of calls."""

from __future__ import annotations

from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import ToolFormat

FORMAT = ToolFormat(
    signs=("<|start_of_role|>",),
    syntax=Syntax(starts=("<|tool_call|>", "<tool_call>", "<function_call>"), ends=("</tool_call>",)),
    before=("<|tool_call|>", "["),
    between=(", ",),
    after=("]",),
)
