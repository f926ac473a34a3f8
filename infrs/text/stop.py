"""Stop strings across the boundaries of streamed pieces."""

from __future__ import annotations


class StopMatcher:
    """A filter that ends a stream of text before the first complete stop string.

    If one character completes several, the longest counts. The result does not depend on the boundaries of the pieces.
    Text is withheld only while it may be the start of a stop string.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        """Start a stream. `stops`: non-empty strings, or none."""
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.found: str | None = None  # the stop string that has ended the stream

    def feed(self, text: str) -> tuple[str, bool]:
        """Return the text that can be shown after this piece, and whether a stop string ended the stream."""
        if not self._stops:
            return text, False
        if self.found is not None:
            return "", True
        text = self._held + text
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            _, start, self.found = min(found)
            self._held = ""
            return text[:start], True
        first = max(0, len(text) - self._longest + 1)
        starts = (start for start in range(first, len(text)) if self._may_begin(text[start:]))
        held_from = next(starts, len(text))
        self._held = text[held_from:]
        return text[:held_from], False

    def flush(self) -> str:
        """Return withheld text at the end of the stream."""
        held, self._held = self._held, ""
        return held

    def _may_begin(self, text: str) -> bool:
        return any(stop.startswith(text) for stop in self._stops)
