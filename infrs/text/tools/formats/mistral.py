"""Mistral and Ministral: `[TOOL_CALLS]` and a list of calls, or since 2025 `[TOOL_CALLS]name[ARGS]{...}` each."""

from __future__ import annotations

from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import ToolFormat

FORMAT = ToolFormat(
    signs=("[TOOL_CALLS]",),
    syntax=Syntax(starts=("[TOOL_CALLS]",), inner=("[ARGS]", "[CALL_ID]"), named=True),
    before=("[TOOL_CALLS]", " ["),
    between=(", ",),
    after=("]",),
)
