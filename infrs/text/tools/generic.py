"""Models that were taught no format: JSON calls, alone or in a list, bare, fenced or in `<tool_call>` tags."""

from __future__ import annotations

from collections.abc import Sequence

from infrs.text.tools.calls import FENCE, CallParser, Syntax
from infrs.text.tools.lark import Literal, Tool, calls_grammar

_SYNTAX = Syntax(starts=("<tool_call>", FENCE), ends=("</tool_call>", FENCE), bare=True)


def detect(template: str) -> bool:
    """Whether a chat template writes this format: any may."""
    return True


def parser(names: frozenset[str], max_calls: int | None) -> CallParser:
    """Reads one answer."""
    return CallParser(_SYNTAX, names, max_calls)


def grammar(tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
    """Answers with calls, in Lark; see `calls_grammar`."""
    if not many:
        return calls_grammar(_SYNTAX, tools, literal, many=False, required=required)
    return calls_grammar(
        _SYNTAX, tools, literal, many=True, required=required, before=("[",), between=(", ",), after=("]",)
    )
