"""Measure the time of selected calls, without changes to the measured code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

Owner = Any  # an object or a class with a callable attribute


class Stopwatch:
    """The seconds of calls of the main thread, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def watching(self, calls: Mapping[str, tuple[Owner, str]]) -> Iterator[Stopwatch]:
        """Measure each named call, (owner, attribute), until the block ends. Times include the calls they make."""
        self.seconds |= dict.fromkeys(calls, 0.0)
        with ExitStack() as stack:
            for name, (owner, attribute) in calls.items():
                stack.enter_context(self._replaced(name, owner, attribute))
            yield self

    @contextmanager
    def _replaced(self, name: str, owner: Owner, attribute: str) -> Iterator[None]:
        original = getattr(owner, attribute)
        had_own = attribute in vars(owner)

        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # whatever the call takes and gives
            begin = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - begin

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            if had_own:
                setattr(owner, attribute, original)
            else:
                delattr(owner, attribute)
