"""A format with bracketed arguments, described by its markers and its language."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from infrs.text.tools.call_grammar import Frame, Literal, Tool, calls_grammar
from infrs.text.tools.literals.grammar import CallRules
from infrs.text.tools.literals.notation import CallSyntax
from infrs.text.tools.literals.parser import LiteralCallParser
from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas


@dataclass(frozen=True, slots=True)
class LiteralFormat:
    """A format that writes a call as a name and bracketed arguments. signs: see ToolFormat."""

    syntax: Syntax
    call: CallSyntax
    frame: Frame
    signs: tuple[str, ...] = ()

    def parser(
        self, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS
    ) -> LiteralCallParser:
        """Return a parser for one answer."""
        return LiteralCallParser(self.syntax, self.call, names, max_calls, schemas)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with calls, in Lark; see `calls_grammar`."""
        rules = CallRules(self.call, literal)
        calls = [rules.call(tool) for tool in tools]
        calls[-1] = "\n".join([calls[-1], *rules.rules()])
        return calls_grammar(self.syntax, self.frame, calls, literal, many=many, required=required)
