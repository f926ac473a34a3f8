"""Measure the latency and count the tokens of one request."""

from __future__ import annotations

import time
from collections.abc import Sequence

from infrs.api.output.tally import Tally
from infrs.core import Delta, Usage
from infrs.metrics import ChatMetrics


class Meter:
    """Observes the deltas of a request as they reach the event loop. received: `perf_counter` at its head."""

    def __init__(self, metrics: ChatMetrics, received: float) -> None:
        self._metrics = metrics
        self._received = received
        self._last: float | None = None
        self._tally = Tally()
        self._closed = False
        self.first: float | None = None  # `perf_counter` at the first delta
        self._num_first = 0  # output tokens in the first batch

    @property
    def usage(self) -> Usage:
        """Return the token counts so far, of all answers."""
        return self._tally.usage

    @property
    def figures(self) -> dict[str, float]:
        """Return the figures for the log, of all answers together.

        These are token counts, `first_token_seconds` since the head, and `tokens_per_second` after the first token.
        """
        usage = self.usage
        figures: dict[str, float] = {
            "prompt_tokens": usage.num_prompt_tokens,
            "cached_tokens": usage.num_reused_tokens,
            "completion_tokens": usage.num_output_tokens,
        }
        if self.first is not None and self._last is not None:
            figures["first_token_seconds"] = round(self.first - self._received, 6)
            if self._last > self.first:
                rate = (usage.num_output_tokens - self._num_first) / (self._last - self.first)
                figures["tokens_per_second"] = round(rate, 2)
        return figures

    def count(self, deltas: Sequence[Delta]) -> None:
        """Count a batch of deltas. The time since the previous batch counts once."""
        now = time.perf_counter()
        if self._last is None:
            self.first = now
            self._metrics.first_token.observe(now - self._received)
        else:
            self._metrics.between_tokens.observe(now - self._last)
        self._last = now
        for delta in deltas:
            self._tally.count(delta)
        if self._last == self.first:
            self._num_first = self.usage.num_output_tokens

    def close(self) -> None:
        """Add the tokens to the metrics, however the answers ended. Idempotent."""
        if not self._closed:
            self._closed, usage = True, self.usage
            self._metrics.prompt_tokens.inc(usage.num_prompt_tokens)
            self._metrics.reused_tokens.inc(usage.num_reused_tokens)
            self._metrics.output_tokens.inc(usage.num_output_tokens)
