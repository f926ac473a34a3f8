"""Formats with JSON arguments, described by their markers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from infrs.text.tools.call_grammar import Frame, Literal, Tool, calls_grammar, json_arguments, terms
from infrs.text.tools.json_parser import JSON_HEAD, Head, JsonCallParser
from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas

NAME = "\0"  # the place of the name in `opening`


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """A format with JSON arguments.

    signs: see ToolFormat. frame: the text around calls; a single bare call has none. opening, closing: the text of a
    call before and after its arguments, with each marker that can be a control token as its own item.
    """

    signs: tuple[str, ...]
    syntax: Syntax
    frame: Frame = field(default_factory=Frame)
    head: Head = JSON_HEAD
    opening: tuple[str, ...] = (f'{{"name": "{NAME}", "arguments": ',)
    closing: tuple[str, ...] = ("}",)

    @property
    def markers(self) -> tuple[str, ...]:
        """Return the markers of the syntax."""
        return self.syntax.markers

    def parser(
        self, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS
    ) -> JsonCallParser:
        """Return a parser for one answer. JSON arguments have types without their schemas."""
        return JsonCallParser(self.syntax, names, max_calls, self.head)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with calls, in Lark; see `calls_grammar`."""
        is_alone = self.syntax.bare and not many
        frame = Frame(between=self.frame.between) if is_alone else self.frame
        calls = [self._rule(tool, literal) for tool in tools]
        return calls_grammar(self.syntax, frame, calls, literal, many=many, required=required)

    def _rule(self, tool: Tool, literal: Literal) -> str:
        opening = [text.replace(NAME, tool.name) for text in self.opening]
        return f"{terms(opening, literal)} {json_arguments(tool)} {terms(self.closing, literal)}"
