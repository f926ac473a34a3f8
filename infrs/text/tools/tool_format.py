"""The description of a tool-call format: its markers. They define its parser and its grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infrs.text.tools.call_grammar import Literal, Tool, calls_grammar
from infrs.text.tools.parser import CallParser, Syntax


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """The tool-call format of a family of models.

    signs: texts of which a chat template of this format has one. before, between, after: the text around calls, with
    each marker that can be a control token as its own item; a single bare call has none. key: the format's key of the
    arguments.
    """

    signs: tuple[str, ...]
    syntax: Syntax
    before: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    key: str = "arguments"

    def detect(self, template: str) -> bool:
        """Return whether a chat template has this format."""
        return any(sign in template for sign in self.signs)

    def parser(self, names: frozenset[str], max_calls: int | None) -> CallParser:
        """Return a parser for one answer."""
        return CallParser(self.syntax, names, max_calls)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with calls, in Lark; see `calls_grammar`."""
        is_alone = self.syntax.bare and not many
        return calls_grammar(
            self.syntax,
            tools,
            literal,
            many=many,
            required=required,
            before=() if is_alone else self.before,
            between=self.between,
            after=() if is_alone else self.after,
            key=self.key,
        )
