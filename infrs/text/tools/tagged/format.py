"""A format with tagged arguments, described by its tags."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from infrs.text.tools.call_grammar import Frame, Literal, Tool, calls_grammar
from infrs.text.tools.call_layout import pieces
from infrs.text.tools.parser import Syntax
from infrs.text.tools.tagged.dialect_tags import Tags
from infrs.text.tools.tagged.grammar import CallRules
from infrs.text.tools.tagged.parser import TaggedCallParser
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas


@dataclass(frozen=True, slots=True)
class TaggedFormat:
    """A format that writes each argument between tags. signs: see ToolFormat."""

    tags: Tags
    signs: tuple[str, ...] = ()

    @property
    def syntax(self) -> Syntax:
        """Return the markers of the dialect."""
        return self.tags.syntax

    def parser(
        self, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS
    ) -> TaggedCallParser:
        """Return a parser for one answer."""
        return TaggedCallParser(self.tags, names, max_calls, schemas)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with calls, in Lark; see `calls_grammar`."""
        tags = self.tags
        start, end = tags.block
        between = tags.join if tags.holds_many else end + tags.join + start
        frame = Frame(*(pieces(text, tags.tokens) for text in (start, between, end)))
        rules = CallRules(tags, literal)
        calls = [rules.call(tool, index) for index, tool in enumerate(tools)]
        calls[-1] += rules.shared()
        lines = ["\n".join(call) for call in calls]
        return calls_grammar(self.syntax, frame, lines, literal, many=many, required=required)
