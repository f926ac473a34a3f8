"""Stop strings across the borders of streamed pieces."""

from __future__ import annotations


class StopMatcher:
    """Cuts a stream of text before the first stop string to be completed.

    Of several that are completed by the same character the longest counts. The outcome does not depend on how the
    text is cut into pieces. Text is held back only while it may be the beginning of a stop string.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        """`stops`: non-empty strings; none at all lets everything through."""
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self.found: str | None = None  # the stop string that has ended the stream

    def feed(self, text: str) -> tuple[str, bool]:
        """Take the next piece: the text that may now be shown, and whether a stop string has ended the stream."""
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
        """The stream has ended: what was held back, since it was no stop string after all."""
        held, self._held = self._held, ""
        return held

    def _may_begin(self, text: str) -> bool:
        return any(stop.startswith(text) for stop in self._stops)
