"""Log-probabilities as chat completions and as completions show them.

They are the model's own, before temperature, penalties, bias and filters. A token that was cut by a stop string, or
that ended the answer, has none.
"""

from __future__ import annotations

import codecs
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


class TextLogprobs:
    """`choices[].logprobs` of a completion, piece by piece: tokens, token_logprobs, top_logprobs, text_offset.

    A token that is no whole characters is shown as `bytes:\\xe2\\x80`. An offset is where the token begins in the
    choice's text, in characters. The token itself is always among top_logprobs, which so may have one entry more.
    """

    def __init__(self, token_bytes: TokenBytes, *, previous: int | None = None) -> None:
        """`previous`: the token before the first; None at the start of a text."""
        self._tokens = token_bytes
        self._reader = TokenReader(token_bytes, previous=previous)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def prompt(self, prompt_ids: Sequence[int], entries: Sequence[TokenLogprob], text: str) -> dict[str, list[Any]]:
        """The prompt's part, where it is echoed as `text`. entries: of all tokens but the first, which has none."""
        first = self._piece([(prompt_ids[0], None)], text)
        rest = self._piece([(entry.token_id, entry) for entry in entries], text)
        self._offset = len(text)
        return {name: first[name] + rest[name] for name in first}

    def answer(self, entries: Sequence[TokenLogprob]) -> dict[str, list[Any]]:
        """A piece of the answer."""
        return self._piece([(entry.token_id, entry) for entry in entries], "")

    def _piece(self, tokens: Sequence[tuple[int, TokenLogprob | None]], text: str) -> dict[str, list[Any]]:
        shown = no_text_logprobs()
        for token_id, entry in tokens:
            top: dict[str, float] | None = None
            if entry is not None:
                top = {}
                for other, logprob in (*entry.top, (token_id, entry.logprob)):
                    top.setdefault(self._spelling(other, self._reader.peek(other)), max(logprob, _LEAST))
            piece = self._reader.read(token_id)
            shown["tokens"].append(self._spelling(token_id, piece))
            shown["token_logprobs"].append(None if entry is None else max(entry.logprob, _LEAST))
            shown["top_logprobs"].append(top)
            shown["text_offset"].append(self._offset)
            self._offset += len(self._utf8.decode(piece)) if piece else self._num_typed(token_id, text)
        return shown

    def _num_typed(self, token_id: int, text: str) -> int:
        """Characters of a control token that was typed into the prompt; those that the tokenizer adds have none."""
        spelling = self._tokens.spelling(token_id)
        return len(spelling) if text.startswith(spelling, self._offset) else 0

    def _spelling(self, token_id: int, piece: bytes) -> str:
        if self._tokens.is_control(token_id):
            return self._tokens.spelling(token_id)
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def no_text_logprobs() -> dict[str, list[Any]]:
    """`choices[].logprobs` of no tokens."""
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
