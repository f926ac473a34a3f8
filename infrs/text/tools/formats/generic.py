"""Models that were taught no format: JSON calls, alone or in a list, bare, fenced or in `<tool_call>` tags."""

from __future__ import annotations

from infrs.text.tools.parser import FENCE, Syntax
from infrs.text.tools.tool_format import ToolFormat

FORMAT = ToolFormat(
    signs=("",),  # any template may
    syntax=Syntax(starts=("<tool_call>", FENCE), ends=("</tool_call>", FENCE), bare=True),
    before=("[",),
    between=(", ",),
    after=("]",),
)
