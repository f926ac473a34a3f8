"""Hermes, Qwen 2.5 and 3, Granite 4, SmolLM3: each call in its own `<tool_call>` block."""

from __future__ import annotations

from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import ToolFormat

FORMAT = ToolFormat(
    signs=("<tool_call>",),
    syntax=Syntax(starts=("<tool_call>",), ends=("</tool_call>",)),
    before=("<tool_call>", "\n"),
    between=("\n", "</tool_call>", "\n", "<tool_call>", "\n"),
    after=("\n", "</tool_call>"),
)
