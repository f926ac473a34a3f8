"""Granite 3: `<|tool_call|>`, in 3.0 `<function_call>`, and a list of calls."""

from __future__ import annotations

from collections.abc import Sequence

from infrs.text.tools.calls import CallParser, Syntax
from infrs.text.tools.lark import Literal, Tool, calls_grammar

_SYNTAX = Syntax(starts=("<|tool_call|>", "<tool_call>", "<function_call>"), ends=("</tool_call>",))


def detect(template: str) -> bool:
    """Whether a chat template writes this format."""
    return "<|start_of_role|>" in template


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
        before=("<|tool_call|>", "["),
        between=(", ",),
        after=("]",),
    )
