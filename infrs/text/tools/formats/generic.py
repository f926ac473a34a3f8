"""Models without a trained format: JSON calls, alone or in a list, bare, fenced or in `<tool_call>` tags."""

from __future__ import annotations

from infrs.text.tools.parser import FENCE, Syntax
from infrs.text.tools.tool_format import ToolFormat

FORMAT = ToolFormat(
    signs=("",),  # matches any template
    syntax=Syntax(starts=("<tool_call>", FENCE), ends=("</tool_call>", FENCE), bare=True),
    before=("[",),
    between=(", ",),
    after=("]",),
)
