"""Split the reasoning block at the start of an answer from its content."""

from __future__ import annotations

from infrs.text.reasoning.tags import THINK, Tags
from infrs.text.tools.events import Content, Event, Reasoning


class ReasoningSplitter:
    """A splitter of one answer: `feed` its text, and `flush` at its end.

    Only a block at the start of the answer counts. Whitespace around the tags is dropped. The result does not depend on
    the boundaries of the pieces.
    """

    def __init__(self, tags: Tags = THINK, *, inside: bool = False) -> None:
        """Start an answer. `inside`: whether the prompt opened the block."""
        self._tags = tags
        self._tag: str | None = tags.close if inside else tags.open  # the expected tag; None when the rest is content
        self._has_begun = inside
        self._rest = ""
        self._space: list[str] = []  # at the end of the reasoning so far
        self._trim = inside  # whether space is dropped until text comes

    @property
    def has_begun(self) -> bool:
        """Return whether the answer has a block, closed or not."""
        return self._has_begun

    @property
    def is_over(self) -> bool:
        """Return whether the reasoning is complete."""
        return self._tag is None

    def feed(self, text: str) -> list[Event]:
        """Return the events of the next piece of text."""
        self._rest += text
        events: list[Event] = []
        if self._tag == self._tags.open:
            self._look_for_block()
        if self._tag == self._tags.close:
            events += self._reasoning()
        if self._tag is None:
            events += self._content()
        return events

    def flush(self) -> list[Event]:
        """Return the events of withheld text at the end of the answer."""
        rest, self._rest = self._rest, ""
        if self._tag == self._tags.close:
            return self._shown(rest)
        return [Content(rest)] if rest and not (self._tag is None and self._trim) else []

    def _look_for_block(self) -> None:
        begun = self._rest.lstrip()
        opening = self._tags.open
        if begun.startswith(opening):
            self._tag, self._rest, self._trim = self._tags.close, begun[len(opening) :], True
            self._has_begun = True
        elif begun and not opening.startswith(begun):
            self._tag = None

    def _reasoning(self) -> list[Event]:
        closing = self._tags.close
        text, found, after = self._rest.partition(closing)
        if found:
            events = self._shown(text)
            self._tag, self._rest, self._trim, self._space = None, after, True, []
            return events
        keep = next((n for n in range(len(closing) - 1, 0, -1) if text.endswith(closing[:n])), 0)
        self._rest = text[len(text) - keep :]
        return self._shown(text[: len(text) - keep])

    def _shown(self, text: str) -> list[Event]:
        """Return reasoning without the space at its end, because the closing tag may follow."""
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        shown = text.rstrip()
        if not shown:
            self._space.append(text)
            return []
        before, self._space = "".join(self._space), [text[len(shown) :]]
        return [Reasoning(before + shown)]

    def _content(self) -> list[Event]:
        text, self._rest = self._rest, ""
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        return [Content(text)] if text else []
