"""Llama 3.1 to 3.3: the answer is a call, `{"name": ..., "parameters": ...}`, maybe after `<|python_tag|>`."""

from __future__ import annotations

from collections.abc import Sequence

from infrs.text.tools.calls import CallParser, Syntax
from infrs.text.tools.lark import Literal, Tool, calls_grammar

_SYNTAX = Syntax(starts=("<|python_tag|>",), bare=True)


def detect(template: str) -> bool:
    """Whether a chat template writes this format."""
    return "<|start_header_id|>" in template


def parser(names: frozenset[str], max_calls: int | None) -> CallParser:
    """Reads one answer."""
    return CallParser(_SYNTAX, names, max_calls)


def grammar(tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
    """Answers with calls, in Lark; see `calls_grammar`."""
    return calls_grammar(_SYNTAX, tools, literal, many=many, required=required, between=("; ",), key="parameters")
