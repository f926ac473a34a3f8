"""Formats with calls that can be the whole answer, without a marker."""

from __future__ import annotations

from infrs.text.tools.call_grammar import Frame
from infrs.text.tools.json_format import NAME, JsonFormat
from infrs.text.tools.parser import FENCE, Syntax

_LIST = Frame(before=("[",), between=(", ",), after=("]",))
_PARAMETERS = (f'{{"name": "{NAME}", "parameters": ',)

# Models without a trained format: calls alone or in a list, bare, fenced or in `<tool_call>` tags.
GENERIC = JsonFormat(
    signs=(),  # for a template without any other format's
    syntax=Syntax(starts=("<tool_call>", FENCE), ends=("</tool_call>", FENCE), bare="{["),
    alone=Frame(),
    frame=_LIST,
)
# Gemma 2 and 3, after Google's guide: the answer is a call, optionally in a fence.
GEMMA = JsonFormat(
    signs=("<start_of_turn>",),
    syntax=Syntax(starts=(FENCE,), ends=(FENCE,), bare="{["),
    alone=Frame(),
    frame=_LIST,
    opening=_PARAMETERS,
)
# Llama 3.1 to 3.3 and 4: the answer is a call, optionally after a marker.
LLAMA_3 = JsonFormat(
    signs=("<|start_header_id|>", "<|header_start|>"),
    syntax=Syntax(starts=("<|python_tag|>", "<|python_start|>"), ends=("<|python_end|>",), bare="{["),
    frame=Frame(between=("; ",)),
    opening=_PARAMETERS,
)
