"""Formats with the name of the tool in front of its JSON arguments."""

from __future__ import annotations

from infrs.text.tools.call_grammar import Frame, Lark
from infrs.text.tools.json_format import NAME, JsonFormat
from infrs.text.tools.json_parser import NAME_PATTERN, Head
from infrs.text.tools.parser import FENCE, Syntax


def _deepseek(marker: str) -> str:
    """Return a marker of DeepSeek with its own letters: a wide bar, and a low block between words."""
    return "<\uff5c" + marker.replace(" ", "\u2581") + "\uff5c>"


_DEEPSEEK_CALLS, _DEEPSEEK_CALLS_END = _deepseek("tool calls begin"), _deepseek("tool calls end")
_DEEPSEEK_CALL, _DEEPSEEK_CALL_END = _deepseek("tool call begin"), _deepseek("tool call end")
_DEEPSEEK_NAME = _deepseek("tool sep")

# DeepSeek V3 and R1: arguments in a fence.
DEEPSEEK_V3 = JsonFormat(
    signs=(f"function{_DEEPSEEK_NAME}", f"'function' + '{_DEEPSEEK_NAME}"),
    syntax=Syntax(
        starts=(_DEEPSEEK_CALLS, _DEEPSEEK_CALL),
        ends=(_DEEPSEEK_CALLS_END,),
        call_ends=(FENCE, _DEEPSEEK_CALL_END),
        inner=(_DEEPSEEK_NAME,),
    ),
    head=Head(named=rf"\s*(?:{_DEEPSEEK_CALL}\s*)?function\s*{_DEEPSEEK_NAME}\s*{NAME_PATTERN}\s*{FENCE}(?:json)?\s*"),
    frame=Frame(before=(_DEEPSEEK_CALLS,), between=("\n",), after=(_DEEPSEEK_CALLS_END,)),
    opening=(_DEEPSEEK_CALL, "function", _DEEPSEEK_NAME, f"{NAME}\n{FENCE}json\n"),
    closing=(f"\n{FENCE}", _DEEPSEEK_CALL_END),
)
# DeepSeek V3.1.
DEEPSEEK_V3_1 = JsonFormat(
    signs=(_DEEPSEEK_CALLS,),
    syntax=Syntax(
        starts=(_DEEPSEEK_CALLS, _DEEPSEEK_CALL),
        ends=(_DEEPSEEK_CALLS_END,),
        call_ends=(_DEEPSEEK_CALL_END,),
        inner=(_DEEPSEEK_NAME,),
    ),
    head=Head(named=rf"\s*(?:{_DEEPSEEK_CALL}\s*)?{NAME_PATTERN}\s*{_DEEPSEEK_NAME}\s*"),
    frame=Frame(before=(_DEEPSEEK_CALLS,), after=(_DEEPSEEK_CALLS_END,)),
    opening=(_DEEPSEEK_CALL, NAME, _DEEPSEEK_NAME),
    closing=(_DEEPSEEK_CALL_END,),
)
# Kimi K2: the id of a call, `functions.name:0`, has its name.
KIMI = JsonFormat(
    signs=("<|tool_calls_section_begin|>",),
    syntax=Syntax(
        starts=("<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
        ends=("<|tool_calls_section_end|>",),
        call_ends=("<|tool_call_end|>",),
        inner=("<|tool_call_argument_begin|>",),
    ),
    head=Head(
        named=rf"\s*(?:<\|tool_call_begin\|>\s*)?(?:functions\.)?{NAME_PATTERN}(?::\d{{1,4}})?\s*"
        r"<\|tool_call_argument_begin\|>\s*"
    ),
    frame=Frame(before=("<|tool_calls_section_begin|>",), after=("<|tool_calls_section_end|>",)),
    opening=("<|tool_call_begin|>", f"functions.{NAME}:", Lark("/[0-9]{1,2}/"), "<|tool_call_argument_begin|>"),
    closing=("<|tool_call_end|>",),
)
# Solar Open: each call has an id, of 10 characters in its documents.
SOLAR = JsonFormat(
    signs=("<|tool_call:begin|>",),
    syntax=Syntax(
        starts=("<|tool_calls|>", "<|tool_call:begin|>"),
        ends=("<|calls|>",),
        call_ends=("<|tool_call:end|>",),
        inner=("<|tool_call:name|>", "<|tool_call:args|>"),
    ),
    head=Head(
        named=rf"\s*(?:<\|tool_call:begin\|>)?\s*(?:\w{{1,64}})?\s*<\|tool_call:name\|>\s*{NAME_PATTERN}\s*"
        r"<\|tool_call:args\|>\s*"
    ),
    frame=Frame(before=("<|tool_calls|>",), after=("<|calls|>",)),
    opening=("<|tool_call:begin|>", Lark("/[a-z0-9]{9,10}/"), "<|tool_call:name|>", NAME, "<|tool_call:args|>"),
    closing=("<|tool_call:end|>",),
)
# Functionary 3.1.
FUNCTIONARY = JsonFormat(
    signs=(),
    syntax=Syntax(starts=("<function=",), ends=("</function>",)),
    head=Head(named=rf"{NAME_PATTERN}>\s*"),
    frame=Frame(before=("<function=",), between=("</function>", "<function="), after=("</function>",)),
    opening=(f"{NAME}>",),
    closing=(),
)
