"""The contract between the engine and what proposes draft tokens.

The engine samples every token from scores with the same bits as without a draft, so drafts never change an answer
(Leviathan et al., arXiv 2211.17192).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Text(Protocol):
    """Token ids that can be sliced."""

    def __len__(self) -> int:
        """Return the number of tokens."""

    def __getitem__(self, key: slice, /) -> Tokens[int]:
        """Return the tokens of a slice."""


class Next(NamedTuple):
    """A token that may come next, its probability by the edited scores, and whether it ends the answer."""

    token_id: int
    probability: float
    is_end: bool


class Ahead(Protocol):
    """Samples the tokens that may come next, as the sequence would. The sequence itself does not change."""

    def next(self, row: npt.NDArray[np.float32]) -> Next:
        """Return the next token for scores, float32 [vocab_size], which are edited in place."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a draft model computes: tokens `start .. end` of the text, and then at most `limit` draft tokens.

    row: of the draft model. source: the row that has the first `start` tokens of the text, often the same one.
    least: the draft ends once its tokens are all accepted with a smaller probability.
    """

    row: int
    source: int
    start: int
    end: int
    limit: int
    least: float = 1.0


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next, and the n-grams that `PromptLookup.record` adds to its index.

    reading: what a draft model computes first; None for a draft of the lookup. probabilities: of its tokens, in the
    draft model.
    """

    tokens: tuple[int, ...] = ()
    new_ngrams: dict[tuple[int, ...], int] = field(default_factory=dict)
    num_indexed: int = 0
    reading: Reading | None = None
    probabilities: tuple[float, ...] = ()


class Drafter(Protocol):
    """Proposes the next tokens of one sequence: a plan, its completion in the step, a note when the step is committed.

    `text` is the prompt and the answer so far. It has only grown since the last call.
    """

    def propose(self, text: Text, limit: int) -> Draft:
        """Return a draft of at most `limit` tokens, or the plan of one. Changes nothing."""

    def complete(self, draft: Draft, text: Text, ahead: Callable[[], Ahead]) -> Draft:
        """Return a draft of `propose` with all its tokens. Raises nothing.

        ahead: returns a new sampler of the tokens behind the text.
        """

    def record(self, draft: Draft, num_accepted: int) -> None:
        """Take note of a completed draft and of how many of its tokens were accepted."""
