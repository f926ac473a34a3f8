"""Times and token counts of one answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

from infrs.core import Delta, Usage
from infrs.metrics import Metrics


class Meter:
    """Observes the deltas of one answer as they reach the event loop. `received`: `perf_counter` at its head."""

    def __init__(self, metrics: Metrics, received: float) -> None:
        self._metrics = metrics
        self._received = received
        self._last: float | None = None
        self._usage: Usage | None = None

    def count(self, deltas: Sequence[Delta]) -> None:
        """Note deltas that are ready together; the time since the last ones counts once."""
        now = time.perf_counter()
        if self._last is None:
            self._metrics.first_token.observe(now - self._received)
        else:
            self._metrics.between_tokens.observe(now - self._last)
        self._last = now
        self._usage = deltas[-1].usage

    def close(self) -> None:
        """Add up the tokens, however the answer ended."""
        if self._usage is not None:
            self._metrics.prompt_tokens.inc(self._usage.num_prompt_tokens)
            self._metrics.output_tokens.inc(self._usage.num_output_tokens)
            self._usage = None
