"""Functionary 3.2: an answer is a list of messages, each with its recipient on the first line.

The prompt ends with the first `>>>`. `all` and a line break come before text for the user, and the name of a tool
before the arguments of a call. See https://github.com/MeetKai/functionary, "Prompt template v3".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from infrs.text.tools.call_grammar import Frame, Literal, Tool, calls_grammar, json_arguments
from infrs.text.tools.events import Event
from infrs.text.tools.json_parser import NAME_PATTERN, Head, JsonCallParser
from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas

_MARKER, _TO_USER = ">>>", "all\n"
_SYNTAX = Syntax(starts=(_MARKER,))


class Functionary:
    """The format of Functionary 3.2."""

    signs = (">>>${recipient}",)
    syntax = _SYNTAX

    def parser(
        self, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS
    ) -> FunctionaryParser:
        """Return a parser for one answer."""
        return FunctionaryParser(names, max_calls)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with calls; unless `required`, with text before them or alone."""
        rules = _calls(tools, literal, many=many)
        if required:
            return rules
        to_user = literal(_TO_USER)
        texts = [
            f"start: calls | {to_user} TEXT | {to_user} lead calls",
            f"TEXT: /(?s:.*)/ & ~/(?s:.*){_MARKER}(?s:.*)/",
            f"lead[lazy]: /(?s:.*)/ {literal(_MARKER)}",
        ]
        return "\n".join(texts) + "\n" + rules.partition("\n")[2]

    def answer_frame(self, tools: Sequence[Tool], literal: Literal) -> str:
        """Return the grammar of answers with calls, or with `answer` for the user; see WrappingFormat."""
        start = f"start: {literal(_TO_USER)} answer"
        return f"{start} | calls\n{_calls(tools, literal, many=True).partition(chr(10))[2]}" if tools else f"{start}\n"


def _calls(tools: Sequence[Tool], literal: Literal, *, many: bool) -> str:
    """Return the grammar of nothing but calls. Its first line is the start rule."""
    calls = [f"{literal(f'{tool.name}{chr(10)}')} {json_arguments(tool)}" for tool in tools]
    return calls_grammar(_SYNTAX, Frame(between=(_MARKER,)), calls, literal, many=many, required=True)


class FunctionaryParser(JsonCallParser):
    """A parser of one answer, which begins after a marker."""

    def __init__(self, names: Collection[str], max_calls: int | None = None) -> None:
        """Start an answer, as CallParser does."""
        super().__init__(_SYNTAX, names, max_calls, Head(named=rf"{NAME_PATTERN}\n\s*"))
        self._open_call("")

    def _call(self) -> Iterator[Event | None]:
        """Read a recipient, and the brace after that of a call. A text with any other first line is content."""
        if self._rest.startswith(_TO_USER):
            self._rest = self._rest[len(_TO_USER) :]
            self._undo = []
            self._phase = self._text
            yield None
        elif self._may_be_call():
            yield from super()._call()
        else:
            yield self._refuse()

    def _may_be_call(self) -> bool:
        """Return whether the text is a recipient, or the start of one."""
        recipients = (_TO_USER, *(f"{name}\n" for name in self._names))
        return any(each.startswith(self._rest) or self._rest.startswith(each) for each in recipients)


FUNCTIONARY_3_2 = Functionary()
