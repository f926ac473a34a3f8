"""Gemma 2 and 3: the answer is a call, `{"name": ..., "parameters": ...}`, maybe in a fence, as Google's guide asks."""

from __future__ import annotations

from collections.abc import Sequence

from infrs.text.tools.calls import FENCE, CallParser, Syntax
from infrs.text.tools.lark import Literal, Tool, calls_grammar

_SYNTAX = Syntax(starts=(FENCE,), ends=(FENCE,), bare=True)


def detect(template: str) -> bool:
    """Whether a chat template writes this format."""
    return "<start_of_turn>" in template


def parser(names: frozenset[str], max_calls: int | None) -> CallParser:
    """Reads one answer."""
    return CallParser(_SYNTAX, names, max_calls)


def grammar(tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
    """Answers with calls, in Lark; see `calls_grammar`."""
    if not many:
        return calls_grammar(_SYNTAX, tools, literal, many=False, required=required, key="parameters")
    return calls_grammar(
        _SYNTAX,
        tools,
        literal,
        many=True,
        required=required,
        before=("[",),
        between=(", ",),
        after=("]",),
        key="parameters",
    )
