"""The parser of formats that write a call as a name and bracketed arguments: Python and Gemma's notation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from infrs.text.tools.call_layout import SPACE, flexible, may_become
from infrs.text.tools.events import Arguments, CallStart, Event
from infrs.text.tools.json_parser import NAME_PATTERN
from infrs.text.tools.literals.argument_reader import LiteralReader
from infrs.text.tools.literals.notation import CallSyntax
from infrs.text.tools.parser import CallParser, Syntax
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas

_LIST_END = re.compile(r"[\s,;]*\]")


class LiteralCallParser(CallParser):
    """A parser of calls with bracketed arguments, which it streams as they grow."""

    def __init__(
        self,
        syntax: Syntax,
        call: CallSyntax,
        names: Collection[str],
        max_calls: int | None = None,
        schemas: Schemas = NO_SCHEMAS,
    ) -> None:
        """Start an answer, as CallParser does. `schemas`: of the tools' parameters, by name."""
        super().__init__(syntax, names, max_calls)
        self._of = call
        self._schemas = schemas
        bracket = rf"{SPACE}\[?" if call.is_list else ""
        self._head = re.compile(
            rf"{bracket}{flexible(call.before)}{NAME_PATTERN}{flexible(call.notation.opening)}", re.ASCII
        )
        self._reader = LiteralReader(call.notation)
        self._is_bare = False
        self._has_more = False  # whether another call can follow without a marker

    def _call(self) -> Iterator[Event | None]:
        """Read a call's name and the opening bracket of its arguments."""
        self._is_bare = not self._undo[-1]
        yield from self._name()

    def _name(self) -> Iterator[Event | None]:
        found = self._head.match(self._rest)
        if found and self._take(found[1]):
            self._rest = self._rest[found.end() :]
            properties = self._schemas.get(found[1], {}).get("properties")
            self._reader = LiteralReader(self._of.notation, [*properties] if isinstance(properties, dict) else ())
            self._has_more = self._of.is_list
            yield CallStart(found[1])
            self._phase = self._arguments
        elif found or not self._may_be_call():
            yield self._refuse()

    def _may_be_call(self) -> bool:
        heads = [f"{self._of.before}{name}{self._of.notation.opening}" for name in self._names]
        return may_become(self._rest, heads + [f"[{head}" for head in heads] * self._of.is_list)

    def _arguments(self) -> Iterator[Event | None]:
        json_text, self._rest = self._reader.read(self._rest)
        if json_text:
            yield Arguments(json_text)
        if self._reader.is_over:
            self._phase = self._between

    def _between(self) -> Iterator[Event | None]:
        if _LIST_END.match(self._rest):
            self._has_more = False
        yield from super()._between()

    def _begins_call(self) -> bool:
        is_next = self._has_more and (self._in_block or self._is_bare)
        is_next = is_next and (self._head.match(self._rest) is not None or self._may_be_call())
        if is_next:
            self._undo = [""]
            self._phase = self._name
        return is_next
