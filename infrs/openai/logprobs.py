"""Log-probabilities as chat completions and as completions show them.

They are the model's own, before temperature, penalties, bias and filters. A token that was cut by a stop string, or
that ended the answer, has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infrs.core import TokenLogprob
from infrs.text.token_bytes import TokenBytes

_LEAST = -9999.0  # what OpenAI writes for a token that is all but impossible


class TokenReader:
    """Follows the tokens of one answer, since what a token adds to a text may depend on the one before it."""

    def __init__(self, token_bytes: TokenBytes, *, previous: int | None = None) -> None:
        """`previous`: the token that the answer goes on from; None begins a text, where a leading space may go."""
        self._tokens = token_bytes
        self._previous = previous

    def read(self, token_id: int) -> bytes:
        """The bytes that the next token adds to the text; none for a control token."""
        piece = self.peek(token_id)
        if not self._tokens.is_control(token_id):
            self._previous = token_id
        return piece

    def peek(self, token_id: int) -> bytes:
        """The bytes that a token would add if it were the next."""
        return self._tokens.of(token_id, self._previous)

    def shown(self, token_id: int, piece: bytes) -> str:
        """How to show a token with these bytes."""
        return self._tokens.spelling(token_id) if self._tokens.is_control(token_id) else piece.decode(errors="replace")

    def bytes_or_none(self, token_id: int, piece: bytes) -> list[int] | None:
        """A token's bytes as a list, or None for a control token."""
        return None if self._tokens.is_control(token_id) else list(piece)


def chat_logprobs(entries: Sequence[TokenLogprob], reader: TokenReader) -> list[dict[str, Any]]:
    """Entries of `choices[].logprobs.content`: token, bytes (null for a control token), logprob, top_logprobs."""
    content = []
    for entry in entries:
        top = [_entry(token_id, logprob, reader, reader.peek(token_id)) for token_id, logprob in entry.top]
        one = _entry(entry.token_id, entry.logprob, reader, reader.read(entry.token_id))
        content.append({**one, "top_logprobs": top})
    return content


def _entry(token_id: int, logprob: float, reader: TokenReader, piece: bytes) -> dict[str, Any]:
    return {
        "token": reader.shown(token_id, piece),
        "bytes": reader.bytes_or_none(token_id, piece),
        "logprob": max(logprob, _LEAST),
    }
