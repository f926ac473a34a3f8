"""Parse an answer's text into one stream of events: reasoning, tool calls and content."""

from __future__ import annotations

from infrs.text.reasoning.splitter import ReasoningSplitter
from infrs.text.tools.events import Content, Event
from infrs.text.tools.tool_format import CallReader


class AnswerReader:
    """A parser of one answer: `feed` its text, and `flush` at its end. Only content can contain calls."""

    def __init__(self, splitter: ReasoningSplitter | None, parser: CallReader | None) -> None:
        """Combine two parsers. `splitter`: None for a model without reasoning. `parser`: None without tools."""
        self._splitter = splitter
        self._parser = parser

    def feed(self, text: str) -> list[Event]:
        """Return the events of the next piece of text."""
        events: list[Event] = [Content(text)] if text else []
        if self._splitter is not None:
            events = self._splitter.feed(text)
        return self._calls(events)

    def flush(self, *, cut: bool = False) -> list[Event]:
        """Return the events of withheld text. `cut`: a limit ended the answer, so an incomplete call is not content."""
        events = self._splitter.flush() if self._splitter is not None else []
        return self._calls(events) + (self._parser.flush(cut=cut) if self._parser is not None else [])

    def _calls(self, events: list[Event]) -> list[Event]:
        parser = self._parser
        if parser is None:
            return events
        return [
            read for event in events for read in (parser.feed(event.text) if isinstance(event, Content) else [event])
        ]
