"""The output of a sequence: its text, stop strings, log-probabilities, and what of them was reported."""

from __future__ import annotations

from typing import Protocol

from infrs.core import FinishReason, TokenLogprob
from infrs.text.stop import StopMatcher


class TextDecoder(Protocol):
    """Turn token ids into whole characters (`infrs.text.detokenizer`)."""

    def feed(self, token_id: int) -> str:
        """Return the text that this token completes."""

    def flush(self) -> str:
        """Return the text that waits for more tokens."""


class Output:
    """Decode the tokens of one answer and keep what is not reported yet."""

    def __init__(self, stop: tuple[str, ...], decoder: TextDecoder) -> None:
        self.finish_reason: FinishReason | None = None
        self.prompt_logprobs: list[TokenLogprob] = []
        self._decoder = decoder
        self._stop = StopMatcher(stop)
        self._num_reported_tokens = 0
        self._num_decoded = 0  # characters, of which the first _num_shown are reported
        self._num_shown = 0
        self._logprobs: list[tuple[int, TokenLogprob]] = []  # not reported yet, with the character where each begins

    @property
    def stop_string(self) -> str | None:
        """Return the stop string that ended the answer, if one did."""
        return self._stop.found

    def add_logprob(self, entry: TokenLogprob) -> None:
        """Add the log-probability of the token that is fed next."""
        self._logprobs.append((self._num_decoded, entry))

    def drop_last_logprob(self) -> None:
        """Drop the log-probability of the end token, which has no text but ends an incomplete character."""
        if self._logprobs:
            self._logprobs.pop()

    def feed(self, token_id: int) -> tuple[str, bool]:
        """Return the text that a token completes, and whether a stop string ends the answer."""
        return self._match(self._decoder.feed(token_id))

    def flush(self) -> str:
        """Return the text that was held back. A stop string that it completes becomes the finish reason."""
        text, stopped = self._match(self._decoder.flush())
        if stopped:
            self.finish_reason = FinishReason.STOP
            return text
        return text + self._stop.flush()

    def take_tokens(self, output_ids: list[int]) -> tuple[int, ...]:
        """Return the tokens that are not reported yet, and mark them as reported."""
        tokens = tuple(output_ids[self._num_reported_tokens :])
        self._num_reported_tokens = len(output_ids)
        return tokens

    def take_prompt_logprobs(self) -> tuple[TokenLogprob, ...]:
        """Return the log-probabilities of the prompt, once."""
        entries, self.prompt_logprobs = tuple(self.prompt_logprobs), []
        return entries

    def take_logprobs(self, text: str) -> tuple[TokenLogprob, ...]:
        """Report `text`; return the log-probabilities of the tokens that are shown by now.

        Tokens that a stop cuts off have none, and neither has the end token.
        """
        self._num_shown += len(text)
        if not self._logprobs:
            return ()
        if self.finish_reason is FinishReason.LENGTH:
            taken = self._logprobs
        else:
            taken = [item for item in self._logprobs if item[0] < self._num_shown]
        self._logprobs = self._logprobs[len(taken) :]
        return tuple(entry for _, entry in taken)

    def _match(self, text: str) -> tuple[str, bool]:
        self._num_decoded += len(text)
        return self._stop.feed(text)
