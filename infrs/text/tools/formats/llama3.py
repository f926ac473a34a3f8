"""Llama 3.1 to 3.3: the answer is a call, `{"name": ..., "parameters": ...}`, optionally after `<|python_tag|>`."""

from __future__ import annotations

from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import ToolFormat

FORMAT = ToolFormat(
    signs=("<|start_header_id|>",),
    syntax=Syntax(starts=("<|python_tag|>",), bare=True),
    between=("; ",),
    key="parameters",
)
