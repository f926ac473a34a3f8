"""How many tokens to draft: from the measured costs of runs, and from how many draft tokens were accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infrs.engine.speculation.timed import Costs

MAX_DRAFT = 8
_MIN_GAIN = 1.1  # a smaller gain is lost in the noise of the measurement
_FIRST_RATE = 0.8  # of accepted tokens, before any is known
_NUM_CLASSES = 8  # of the draft model's own probability of a token
_WEIGHT = 4.0  # tokens that the former rate counts for
_KEPT_PER_DRAFT, _KEPT_PER_STEP = 0.9, 0.98  # of what is known


@dataclass(slots=True)
class _Count:
    """How many draft tokens were tried and accepted. Both fade."""

    num_tried: float = 0.0
    num_accepted: float = 0.0

    def rate(self, former: float) -> float:
        """Return the part that was accepted; `former` while little is known."""
        return (self.num_accepted + _WEIGHT * former) / (self.num_tried + _WEIGHT)

    def fade(self, kept: float) -> None:
        self.num_tried *= kept
        self.num_accepted *= kept

    def add(self, *, accepted: bool) -> None:
        self.num_tried += 1
        self.num_accepted += accepted


class Acceptance:
    """How probable it is that a draft token is accepted, if those before it were.

    What is known fades with each draft, and slowly with each step without one: so a model that did not pay is tried
    again. former: what to expect while little is known.
    """

    def __init__(self, former: Acceptance | None = None) -> None:
        self._former = former
        self._all = _Count()
        self._classes = [_Count() for _ in range(_NUM_CLASSES)]

    @property
    def rate(self) -> float:
        """Return the probability for any token."""
        return self._all.rate(_FIRST_RATE if self._former is None else self._former.rate)

    def of(self, probability: float) -> float:
        """Return the probability for a token that has this one in the draft model, between 0 and 1."""
        former = (1 + probability) / 2 if self._former is None else self._former.of(probability)
        return self._classes[_class(probability)].rate(former)

    def note(self, probabilities: Sequence[float], num_accepted: int) -> None:
        """Take note of a draft; of none, if there are no probabilities. A token behind a rejected one was not tried."""
        self._all.fade(_KEPT_PER_DRAFT if probabilities else _KEPT_PER_STEP)
        for place, probability in enumerate(probabilities[: num_accepted + 1]):
            count = self._classes[_class(probability)]
            count.fade(_KEPT_PER_STEP)
            for each in (self._all, count):
                each.add(accepted=place < num_accepted)
        if self._former is not None:
            self._former.note(probabilities, num_accepted)


def _class(probability: float) -> int:
    return min(int(probability * _NUM_CLASSES), _NUM_CLASSES - 1)


@dataclass(frozen=True, slots=True)
class Pace:
    """The best use of a draft model. pays: whether it gains anything.

    saved: seconds for each token. least: a draft ends behind a token that is accepted, with those before it, with a
    smaller probability: the next one would take longer than it saves.
    """

    pays: bool
    saved: float = 0.0
    least: float = 1.0


def choose_pace(target: Costs, draft: Costs, rate: float, limit: int) -> Pace:
    """Return the pace with the most tokens a second, of at most `limit` draft tokens.

    A draft of k tokens takes k runs of the draft model, and a run of the target with k + 1 tokens. It gives a token
    for each accepted one and one more: 1 + r + r² + ... + r^k on average, if a token is accepted with the rate r.
    """
    plain = target.of(1)
    best = plain / _MIN_GAIN
    least: float | None = None
    expected = reached = 1.0
    for size in range(1, min(limit, MAX_DRAFT) + 1):
        reached *= rate
        expected += reached
        seconds = (size * draft.of(1) + target.of(size + 1)) / expected
        if seconds < best:
            best, further = seconds, draft.of(1) + max(0.0, target.of(size + 1) - target.of(size))
            least = further / (rate * seconds)
    return Pace(pays=False) if least is None else Pace(pays=True, saved=plain - best, least=least)
