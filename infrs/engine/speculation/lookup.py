"""Draft by lookup: text that repeats is verified several tokens a run, for little more than the cost of one."""

from __future__ import annotations

from collections.abc import Callable

from infrs.engine.speculation.drafter import Ahead, Draft, Text

_NGRAM = 3  # tokens that must repeat
_MAX_DRAFT = 7  # with the token before it a run of eight, which costs about twice a run of one
_MAX_PAUSE = 32


class PromptLookup:
    """Draft what followed the last tokens of a text at their previous occurrence. See `Drafter`.

    Every rejected draft doubles a pause, so an answer that does not repeat its prompt pays next to nothing.
    """

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # n-gram: the position behind its last occurrence
        self._num_indexed = 0
        self._size = _MAX_DRAFT // 2
        self._pause = 0
        self._wait = 0

    def propose(self, text: Text, limit: int) -> Draft:
        """See Drafter.propose."""
        if self._wait:
            return Draft()
        start, end = max(self._num_indexed, _NGRAM), len(text)
        recent = text[start - _NGRAM : end]
        new = {tuple(recent[i : i + _NGRAM]): start + i for i in range(end - start)}
        ngram = tuple(text[-_NGRAM:])
        position = new.get(ngram, self._after.get(ngram))
        tokens = () if position is None else tuple(text[position : position + min(self._size, limit)])
        return Draft(tokens, new, end)

    def complete(self, draft: Draft, text: Text, ahead: Callable[[], Ahead]) -> Draft:
        """See Drafter.complete. A draft is complete when it is proposed."""
        return draft

    def record(self, draft: Draft, num_accepted: int) -> None:
        """See Drafter.record. The next draft is longer after an accepted one and shorter after a rejected one."""
        if self._wait:
            self._wait -= 1
            return
        self._after.update(draft.new_ngrams)
        self._num_indexed = draft.num_indexed
        if not draft.tokens:
            return
        if num_accepted == len(draft.tokens):
            self._size = min(2 * self._size, _MAX_DRAFT)
        else:
            self._size = max(1, num_accepted)
        self._pause = 0 if num_accepted else min(2 * self._pause + 1, _MAX_PAUSE)
        self._wait = self._pause
