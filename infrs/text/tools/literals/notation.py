"""How languages write the values of arguments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notation:
    """How a language writes the arguments of a call and their values.

    opening, close: around the arguments. assign: between an argument and its value. quotes: the delimiters of strings,
    longer ones first. escapes: whether strings have backslash escapes, and any of the quotes around them. comma, colon:
    between items, and between a key and its value. has_quoted_keys: whether the keys of objects are strings. words: the
    spellings of true, false and null. is_sorted: whether objects and arguments have their keys in order.
    """

    quotes: tuple[str, ...]
    opening: str = "("
    close: str = ")"
    assign: str = "="
    escapes: bool = True
    comma: str = ", "
    colon: str = ": "
    has_quoted_keys: bool = True
    words: tuple[tuple[str, ...], ...] = (("True", "true"), ("False", "false"), ("None", "null"))
    is_sorted: bool = False


PYTHON = Notation(quotes=('"""', "'''", '"', "'"))


def braces(quote: str, *, is_sorted: bool = False) -> Notation:
    """Return the notation of Gemma's calls: `{key:value}` with a control token as the quote."""
    return Notation(
        quotes=(quote,),
        opening="{",
        close="}",
        assign=":",
        escapes=False,
        comma=",",
        colon=":",
        has_quoted_keys=False,
        words=(("true",), ("false",), ("null", "None")),
        is_sorted=is_sorted,
    )


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How a language writes a call: `before`, the name and the arguments.

    is_list: whether brackets can be around the calls after a start marker.
    """

    notation: Notation
    before: str = ""
    is_list: bool = True
