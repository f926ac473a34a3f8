"""The parser of formats that write each argument between tags, with the value as plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from infrs.text.tools.argument_types import Argument, argument_of
from infrs.text.tools.call_layout import BREAK, MAX_TAG, SPACE, flexible, may_become, plain, squeezed
from infrs.text.tools.events import Arguments, CallStart, Event
from infrs.text.tools.json_parser import NAME_PATTERN
from infrs.text.tools.parser import CallParser, held_back
from infrs.text.tools.tagged.dialect_tags import Tags
from infrs.text.tools.tagged.values import ArgumentValue
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas


class TaggedCallParser(CallParser):
    """A parser of calls with tagged arguments. Strings are streamed as they grow, other values when they are whole.

    A closing tag ends a value only if a tag of the call follows it; else it is a part of the value.
    """

    def __init__(
        self, tags: Tags, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS
    ) -> None:
        """Start an answer, as CallParser does. `schemas`: of the tools' parameters, by name."""
        super().__init__(tags.syntax, names, max_calls)
        self._schemas = schemas
        self._tags_of = tags
        self._open, name_end, self._close = map(plain, tags.call)
        after_name = flexible(name_end) if name_end else rf"(?={SPACE}<)"
        self._head = re.compile(rf"{flexible(self._open)}{NAME_PATTERN}{after_name}", re.ASCII)
        self._bare_head = re.compile(NAME_PATTERN + after_name, re.ASCII)
        self._name_end = name_end
        key_ends = "|".join(flexible(end) for end in (tags.key_of_text, tags.key[1]) if end)
        key = rf"([^\n{re.escape(plain(tags.key[1])[0])}]{{1,256}})"
        self._key = re.compile(rf"{flexible(tags.key[0])}{key}({key_ends})")
        self._is_padded = tags.value_end.startswith("\n")
        self._value_tag = ""
        self._value_end = re.compile("(?!)")
        self._next_tags = tuple(filter(None, map(plain, (tags.key[0], tags.call[2], tags.block[1]))))
        self._next = re.compile(rf"{SPACE}({'|'.join(map(re.escape, self._next_tags))})")
        self._parameters: Mapping[str, Any] = {}
        self._value = ArgumentValue(Argument())
        self._num_arguments = 0
        self._is_value_start = False

    def flush(self, *, cut: bool = False) -> list[Event]:
        """Return withheld text; see CallParser. An answer that ends after a whole value ends its call."""
        closing = self._value_end.match(self._rest) if self._phase == self._in_value else None
        if cut or not (closing or self._phase == self._tags):
            return super().flush(cut=cut)
        self._rest = closing[0] if closing else ""
        return self.feed(self._close or self._syntax.ends[0]) + super().flush()

    def _call(self) -> Iterator[Event | None]:
        """Read the tag with a call's name."""
        found = (self._bare_head if self._is_bare else self._head).match(self._rest)
        if found and self._take(found[1]):
            self._rest = self._rest[found.end() :]
            self._parameters, self._num_arguments = self._schemas.get(found[1], {}), 0
            yield CallStart(found[1])
            self._phase = self._tags
        elif found or not self._may_be_call():
            yield self._refuse()

    @property
    def _is_bare(self) -> bool:
        """Return whether the start marker is the tag of the call itself."""
        return bool(self._open) and self._undo[-1] == self._open

    def _may_be_call(self) -> bool:
        opening = "" if self._is_bare else self._open
        return may_become(self._rest, [opening + name + self._name_end for name in self._names])

    def _begins_call(self) -> bool:
        if not (self._in_block and self._open):
            return False
        if self._rest.startswith(self._open):
            self._undo = [""]
            self._phase = self._call
        return self._rest.startswith(self._open) or self._open.startswith(self._rest)  # wait for the rest of the tag

    def _tags(self) -> Iterator[Event | None]:
        """Read a key, or the end of the call."""
        key, tag = self._key.match(self._rest), self._next.match(self._rest)
        if key:
            self._rest = self._rest[key.end() :]
            self._value, self._is_value_start = ArgumentValue(self._argument(key[1], key[2])), True
            yield Arguments(f"{', ' if self._num_arguments else '{'}{json.dumps(key[1], ensure_ascii=False)}: ")
            self._num_arguments += 1
            self._phase = self._in_value
            return
        is_key = tag is not None and tag[1] == self._next_tags[0]
        if is_key or (tag is None and may_become(self._rest, self._next_tags)):
            if len(self._rest) < MAX_TAG:
                return
        elif tag is not None and tag[1] == self._close:
            self._rest = self._rest[tag.end() :]
        yield Arguments("}" if self._num_arguments else "{}")
        self._phase = self._between

    def _argument(self, key: str, key_end: str) -> Argument:
        """Return the type of an argument: the format writes it, or the tool's schema has it."""
        if self._tags_of.key_of_text:
            return Argument(is_text=squeezed(key_end) == squeezed(self._tags_of.key_of_text))
        return argument_of(key, self._parameters)

    def _in_value(self) -> Iterator[Event | None]:
        """Read a part of a value."""
        if self._is_value_start:
            quote = self._tags_of.quotes[0]
            if quote.startswith(self._rest) and self._rest != quote:
                return
            self._begin_value(is_quoted=bool(quote) and self._rest.startswith(quote))
        closing = self._value_end.search(self._rest)
        if closing is None:
            tags = ("\n" + self._value_tag, self._value_tag) if self._is_padded else (self._value_tag,)
            yield self._add(len(self._rest) - held_back(self._rest, tags))
        elif self._next.match(self._rest, closing.end()):
            yield self._add(closing.start())
            yield Arguments(self._value.end())
            self._rest = self._rest[len(closing[0]) :]
            self._phase = self._tags
        elif may_become(self._rest[closing.end() : closing.end() + MAX_TAG], self._next_tags):
            yield self._add(closing.start())
        else:
            yield self._add(closing.end())
            self._phase = self._in_value

    def _begin_value(self, *, is_quoted: bool) -> None:
        """Drop what comes before the text of a value, and expect what ends it."""
        opening, closing = self._tags_of.quotes if is_quoted else ("", "")
        self._is_value_start = False
        self._rest = self._rest[len(opening) :].removeprefix("\n" if self._is_padded else "")
        self._value_tag = closing + self._tags_of.value_end.replace(BREAK, "").strip()
        self._value_end = re.compile(("\n?" if self._is_padded else "") + re.escape(self._value_tag))

    def _add(self, length: int) -> Event | None:
        """Add text of this length to the value."""
        text, self._rest = self._rest[:length], self._rest[length:]
        json_text = self._value.add(text)
        return Arguments(json_text) if json_text else None
