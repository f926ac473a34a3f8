"""Gemma 2 and 3: the answer is a call, `{"name": ..., "parameters": ...}`, optionally in a fence (Google's guide)."""

from __future__ import annotations

from infrs.text.tools.parser import FENCE, Syntax
from infrs.text.tools.tool_format import ToolFormat

FORMAT = ToolFormat(
    signs=("<start_of_turn>",),
    syntax=Syntax(starts=(FENCE,), ends=(FENCE,), bare=True),
    before=("[",),
    between=(", ",),
    after=("]",),
    key="parameters",
)
