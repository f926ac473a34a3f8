"""Mistral and Ministral: `[TOOL_CALLS]` and a list of calls, or since 2025 `[TOOL_CALLS]name[ARGS]{...}` each."""

from __future__ import annotations

from collections.abc import Sequence

from infrs.text.tools.calls import CallParser, Syntax
from infrs.text.tools.lark import Literal, Tool, calls_grammar

_SYNTAX = Syntax(starts=("[TOOL_CALLS]",), inner=("[ARGS]", "[CALL_ID]"), named=True)


def detect(template: str) -> bool:
    """Whether a chat template writes this format."""
    return "[TOOL_CALLS]" in template


def parser(names: frozenset[str], max_calls: int | None) -> CallParser:
    """Reads one answer."""
    return CallParser(_SYNTAX, names, max_calls)


def grammar(tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
    """Answers with calls, in Lark; see `calls_grammar`."""
    return calls_grammar(
        _SYNTAX,
        tools,
        literal,
        many=many,
        required=required,
        before=("[TOOL_CALLS]", " ["),
        between=(", ",),
        after=("]",),
    )
