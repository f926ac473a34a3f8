"""Formats that write calls as in a programming language."""

from __future__ import annotations

from infrs.text.tools.call_grammar import Frame, Lark
from infrs.text.tools.literals.format import LiteralFormat
from infrs.text.tools.literals.notation import PYTHON, CallSyntax, braces
from infrs.text.tools.parser import Syntax

_BREAK = Lark(r"/\n?/")  # some templates write it
_LIST = Frame(before=("[",), between=(", ",), after=("]",))

# Llama 3.2 and 4, Gemma 3 and ToolACE with a template for it: the answer is a list of calls.
PYTHONIC = LiteralFormat(
    syntax=Syntax(starts=("<|python_start|>",), ends=("<|python_end|>",), bare="["),
    call=CallSyntax(PYTHON),
    frame=_LIST,
)
LFM_2 = LiteralFormat(
    signs=("<|tool_call_start|>", "<|tool_list_start|>", "List of tools: ["),
    syntax=Syntax(starts=("<|tool_call_start|>",), ends=("<|tool_call_end|>",)),
    call=CallSyntax(PYTHON),
    frame=Frame(before=("<|tool_call_start|>", "["), between=(", ",), after=("]", "<|tool_call_end|>")),
)
# OLMo 3: a call on each line.
OLMO_3 = LiteralFormat(
    signs=("<function_calls>",),
    syntax=Syntax(starts=("<function_calls>",), ends=("</function_calls>",)),
    call=CallSyntax(PYTHON),
    frame=Frame(before=("<function_calls>", _BREAK), between=("\n",), after=(_BREAK, "</function_calls>")),
)


def _gemma(start: str, end: str, quote: str, *, is_sorted: bool = False) -> LiteralFormat:
    return LiteralFormat(
        signs=(start,),
        syntax=Syntax(starts=(start,), ends=(end,), inner=(quote,)),
        call=CallSyntax(braces(quote, is_sorted=is_sorted), before="call:", is_list=False),
        frame=Frame(before=(start,), between=(end, start), after=(end,)),
    )


GEMMA_4 = _gemma("<|tool_call>", "<tool_call|>", '<|"|>', is_sorted=True)
FUNCTION_GEMMA = _gemma("<start_function_call>", "<end_function_call>", "<escape>")
