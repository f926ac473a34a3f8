"""What there is to say of a format of tool calls: its markers, of which its parser and its grammar are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infrs.text.tools.call_grammar import Literal, Tool, calls_grammar
from infrs.text.tools.parser import CallParser, Syntax


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family of models writes its calls.

    signs: a chat template that has one of them writes this format. before, between, after: the text around calls, each
    marker that may be a control token by itself; a bare call that is the only one has none around it. key: what the
    format calls the arguments.
    """

    signs: tuple[str, ...]
    syntax: Syntax
    before: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    key: str = "arguments"

    def detect(self, template: str) -> bool:
        """Whether a chat template writes this format."""
        return any(sign in template for sign in self.signs)

    def parser(self, names: frozenset[str], max_calls: int | None) -> CallParser:
        """Reads one answer."""
        return CallParser(self.syntax, names, max_calls)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Answers with calls, in Lark; see `calls_grammar`."""
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
