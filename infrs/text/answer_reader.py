"""What an answer's text means: reasoning, tool calls and content, in one stream of events."""

from __future__ import annotations

from infrs.text.reasoning import ReasoningSplitter
from infrs.text.tools.events import Content, Event
from infrs.text.tools.parser import CallParser


class AnswerReader:
    """Streams one answer: `feed` text, and `flush` when it has ended. Calls are looked for in the content only."""

    def __init__(self, splitter: ReasoningSplitter | None, parser: CallParser | None) -> None:
        """None where the model does not reason, or the request has no tools."""
        self._splitter = splitter
        self._parser = parser

    def feed(self, text: str) -> list[Event]:
        """What the next piece of text means."""
        events: list[Event] = [Content(text)] if text else []
        if self._splitter is not None:
            events = self._splitter.feed(text)
        return self._calls(events)

    def flush(self, *, cut: bool = False) -> list[Event]:
        """End the answer: what was held back. `cut`: a limit ended it, so the beginning of a call is no content."""
        events = self._splitter.flush() if self._splitter is not None else []
        return self._calls(events) + (self._parser.flush(cut=cut) if self._parser is not None else [])

    def _calls(self, events: list[Event]) -> list[Event]:
        parser = self._parser
        if parser is None:
            return events
        return [
            read for event in events for read in (parser.feed(event.text) if isinstance(event, Content) else [event])
        ]
