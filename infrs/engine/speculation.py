"""Propose draft tokens: text that repeats is verified several tokens a run, for little more than the cost of one.

The engine samples every token from scores with the same bits as without a draft, so drafts never change an answer
(Leviathan et al., arXiv 2211.17192). Prompt lookup takes the place of the draft model.
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Protocol

_NGRAM = 3  # tokens that must repeat
_MAX_DRAFT = 7  # with the token before it a run of eight, which costs about twice a run of one
_MAX_PAUSE = 32


class Text(Protocol):
    """Token ids that can be sliced."""

    def __len__(self) -> int:
        """Return the number of tokens."""

    def __getitem__(self, key: slice, /) -> Tokens[int]:
        """Return the tokens of a slice."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next, and the n-grams that `PromptLookup.record` adds to its index."""

    tokens: tuple[int, ...] = ()
    new_ngrams: dict[tuple[int, ...], int] = field(default_factory=dict)
    num_indexed: int = 0


class PromptLookup:
    """Draft what followed the last tokens of a text at their previous occurrence.

    Every rejected draft doubles a pause, so an answer that does not repeat its prompt pays next to nothing.
    """

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # n-gram: the position behind its last occurrence
        self._num_indexed = 0
        self._size = _MAX_DRAFT // 2
        self._pause = 0
        self._wait = 0

    def propose(self, text: Text, limit: int) -> Draft:
        """Return a draft of at most `limit` tokens. Changes nothing.

        `text` is the prompt and the answer so far. It has only grown since the last call.
        """
        if self._wait:
            return Draft()
        start, end = max(self._num_indexed, _NGRAM), len(text)
        recent = text[start - _NGRAM : end]
        new = {tuple(recent[i : i + _NGRAM]): start + i for i in range(end - start)}
        ngram = tuple(text[-_NGRAM:])
        position = new.get(ngram, self._after.get(ngram))
        tokens = () if position is None else tuple(text[position : position + min(self._size, limit)])
        return Draft(tokens, new, end)

    def record(self, draft: Draft, num_accepted: int) -> None:
        """Take note of a draft of `propose` and of how many of its tokens were accepted.

        The next draft is longer after an accepted one and shorter after a rejected one.
        """
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
