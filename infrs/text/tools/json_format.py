"""Formats with JSON arguments, described by their markers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from infrs.text.tools.call_grammar import Frame, Lark, Literal, Text, Tool, calls_grammar, json_arguments, terms
from infrs.text.tools.json_parser import JSON_HEAD, Head, JsonCallParser
from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas

NAME = "\0"  # the place of the name in `opening`


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """A format with JSON arguments.

    signs: see ToolFormat. frame: the text around calls. alone: the same for a single call; None if it is no different.
    opening, closing: the text of a call before and after its arguments.
    """

    signs: tuple[str, ...]
    syntax: Syntax
    frame: Frame = field(default_factory=Frame)
    alone: Frame | None = None
    head: Head = JSON_HEAD
    opening: Text = (f'{{"name": "{NAME}", "arguments": ',)
    closing: Text = ("}",)

    def parser(
        self, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS
    ) -> JsonCallParser:
        """Return a parser for one answer. JSON arguments have types without their schemas."""
        return JsonCallParser(self.syntax, names, max_calls, self.head)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with calls, in Lark; see `calls_grammar`."""
        frame = self.frame if many or self.alone is None else self.alone
        calls = [self._rule(tool, literal) for tool in tools]
        return calls_grammar(self.syntax, frame, calls, literal, many=many, required=required)

    def opening_of(self, name: str) -> Text:
        """Return the text of a call before its arguments."""
        return tuple(part if isinstance(part, Lark) else part.replace(NAME, name) for part in self.opening)

    def _rule(self, tool: Tool, literal: Literal) -> str:
        opening, closing = terms(self.opening_of(tool.name), literal), terms(self.closing, literal)
        return f"{opening} {json_arguments(tool)} {closing}"
