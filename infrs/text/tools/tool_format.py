"""The protocol of tool-call formats."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

from infrs.text.constraint import Constraint
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.call_grammar import Literal, Tool
from infrs.text.tools.events import Event
from infrs.text.tools.parser import Syntax

Schemas = Mapping[str, Mapping[str, Any]]
NO_SCHEMAS: Schemas = {}


class CallReader(Protocol):
    """A parser of one answer: `feed` its text, and `flush` at its end.

    The events do not depend on the boundaries of the pieces. The time is linear in the length of the text.
    """

    def feed(self, text: str) -> list[Event]:
        """Return the events of the next piece of text."""

    def flush(self, *, cut: bool = False) -> list[Event]:
        """Return the events of withheld text. `cut`: a limit ended the answer, so the start of a call is dropped."""

    def expect_form(self) -> None:
        """Expect structured output instead of plain text: an object without a marker is output, not a call."""

    def expect_call(self) -> None:
        """Expect calls only: what a limit cuts is the start of a call, to the first character."""


class ToolFormat(Protocol):
    """The notation in which a family of models writes its calls."""

    @property
    def signs(self) -> tuple[str, ...]:
        """Return texts of which a chat template of this format has one, for templates that do not render calls."""

    @property
    def syntax(self) -> Syntax:
        """Return the markers around calls."""

    def parser(self, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS) -> CallReader:
        """Return a parser for one answer.

        names: the tools of the request. max_calls: text after this many calls is dropped. schemas: the schemas of the
        tools' parameters by name, for a format that does not write types.
        """

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with one call, or several if `many`; unless `required`, also plain text."""


@runtime_checkable
class WrappingFormat(ToolFormat, Protocol):
    """A format with markers in every answer, also in one without tools."""

    def answer_frame(self, tools: Sequence[Tool], literal: Literal) -> str:
        """Return the grammar of answers with a call of one of the tools, or with text of the rule `answer`.

        That rule is left to the constraint of the text.
        """


def calls_constraint(
    tool_format: ToolFormat, tools: Sequence[Tool], tokenizer: Tokenizer, *, many: bool, required: bool
) -> Constraint:
    """Return the constraint of an answer with one call, or several if `many`; unless `required`, also plain text."""
    literal = partial(lark_term, tokenizer)
    return Constraint("calls", tool_format.grammar(tools, literal, many=many, required=required), "tools")


def framed(tool_format: ToolFormat, constraint: Constraint, tools: Sequence[Tool], tokenizer: Tokenizer) -> Constraint:
    """Return the constraint of an answer's text, or of calls as its alternative, between the markers of a format."""
    if not isinstance(tool_format, WrappingFormat):
        return constraint
    return replace(constraint, frame=tool_format.answer_frame(tools, partial(lark_term, tokenizer)))


def lark_term(tokenizer: Tokenizer, text: str) -> str:
    """Return the Lark term of a text: a quoted string, or the token if the text is a control token."""
    token_id = tokenizer.token_id(text)
    return f"<[{token_id}]>" if token_id in tokenizer.special_ids else json.dumps(text, ensure_ascii=False)
