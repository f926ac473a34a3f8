"""Decide which models to load and which to unload. The decision is a function of values: it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class ModelState(StrEnum):
    """Where a model is in its life."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True)
class Resident:
    """What the decision needs to know of one model. Times are in seconds of one clock, sizes in bytes.

    needed: the memory of one copy. held: the memory of all its copies, those that load or drain included.
    is_opening: a copy loads now. wanted_since: when the oldest request began to wait for a copy, None if none waits.
    num_users: requests that wait or run. keep_alive: how long an idle model stays; negative for ever.
    """

    model_id: str
    state: ModelState
    needed: int = 0
    held: int = 0
    is_opening: bool = False
    wanted_since: float | None = None
    num_users: int = 0
    last_used: float = 0.0
    keep_alive: float = -1.0
    is_pinned: bool = False

    @property
    def is_idle(self) -> bool:
        """Return whether the model can be unloaded: it is loaded, and no request needs it."""
        is_needed = self.num_users or self.is_opening or self.is_pinned or self.wanted_since is not None
        return self.state is ModelState.READY and not is_needed

    @property
    def expiry(self) -> float | None:
        """Return when the model is to be unloaded if no request comes; None for never."""
        return self.last_used + self.keep_alive if self.is_idle and self.keep_alive >= 0 else None


@dataclass(frozen=True, slots=True)
class Load:
    """Open a copy of a model."""

    model_id: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Free a model that is idle. expired: because of `keep_alive`, else to make room."""

    model_id: str
    expired: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """A model cannot fit. free: the most bytes that it could have."""

    model_id: str
    needed: int
    free: int


Action = Load | Unload | Refuse


def decide(residents: Sequence[Resident], budget: int | None, now: float) -> list[Action]:
    """Return what to do now. budget: bytes of all models together, None for no bound.

    Models load one at a time, in the order of the requests that wait. To make room, the models that were idle for
    the longest time are unloaded; if that is not enough, the load waits until more are idle.
    """
    expired = [each for each in residents if each.expiry is not None and each.expiry <= now]
    actions: list[Action] = [Unload(each.model_id, expired=True) for each in expired]
    wanted = _next_wanted(residents)
    if wanted is None:
        return actions
    if budget is None:
        return [*actions, Load(wanted.model_id)]
    fixed = sum(each.held for each in residents if each is wanted or (each.is_pinned and each.held))
    if fixed + wanted.needed > budget:
        return [*actions, Refuse(wanted.model_id, wanted.needed, max(0, budget - fixed))]
    missing = sum(each.held for each in residents) + wanted.needed - budget
    if missing <= 0:
        return [*actions, Load(wanted.model_id)]
    missing -= sum(each.held for each in residents if each in expired or each.state is ModelState.UNLOADING)
    idle = [each for each in residents if each.is_idle and each.held and each is not wanted and each not in expired]
    return [*actions, *_make_room(idle, missing)]


def next_expiry(residents: Sequence[Resident]) -> float | None:
    """Return when the first idle model is to be unloaded, or None."""
    return min((each.expiry for each in residents if each.expiry is not None), default=None)


def _next_wanted(residents: Sequence[Resident]) -> Resident | None:
    """Return the model to load next; None if none is wanted, or while one loads."""
    if any(each.is_opening for each in residents):
        return None
    wanted = [each for each in residents if each.wanted_since is not None and each.state is not ModelState.UNLOADING]
    return min(wanted, key=lambda each: each.wanted_since or 0.0, default=None)


def _make_room(idle: Sequence[Resident], missing: int) -> Iterator[Unload]:
    """Yield the unloads that free `missing` bytes, the least recently used models first; none if they are too few."""
    if missing > sum(each.held for each in idle):
        return
    for each in sorted(idle, key=lambda each: each.last_used):
        if missing <= 0:
            return
        missing -= each.held
        yield Unload(each.model_id, expired=False)
