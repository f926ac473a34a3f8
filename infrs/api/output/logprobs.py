"""Log-probabilities in chat completions and in completions.

They are those of the model, before temperature, penalties, bias and filters. A token that a stop string cuts, or that
ends the answer, has none.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from infrs.core import TokenLogprob
from infrs.text.token_bytes import TokenBytes

_LEAST = -9999.0  # OpenAI's value for a token of almost no probability


class TokenStream:
    """Decodes the tokens of one answer in order: the bytes of a token may depend on the token before it."""

    def __init__(self, token_bytes: TokenBytes, *, previous: int | None = None) -> None:
        """`previous`: the token before the answer; None starts a text, where a leading space may be stripped."""
        self._tokens = token_bytes
        self._previous = previous

    def advance(self, token_id: int) -> bytes:
        """Take the next token, and return the bytes that it adds to the text; none for a control token."""
        piece = self.peek(token_id)
        if not self._tokens.is_control(token_id):
            self._previous = token_id
        return piece

    def peek(self, token_id: int) -> bytes:
        """Return the bytes that a token would add as the next one."""
        return self._tokens.of(token_id, self._previous)

    def shown(self, token_id: int, piece: bytes) -> str:
        """Return the text that shows a token with these bytes."""
        return self._tokens.spelling(token_id) if self._tokens.is_control(token_id) else piece.decode(errors="replace")

    def bytes_or_none(self, token_id: int, piece: bytes) -> list[int] | None:
        """Return the bytes of a token as a list, or None for a control token."""
        return None if self._tokens.is_control(token_id) else list(piece)


def chat_logprobs(entries: Sequence[TokenLogprob], stream: TokenStream) -> list[dict[str, Any]]:
    """Return entries of `choices[].logprobs.content`. `bytes` is null for a control token."""
    content = []
    for entry in entries:
        top = [_entry(token_id, logprob, stream, stream.peek(token_id)) for token_id, logprob in entry.top]
        one = _entry(entry.token_id, entry.logprob, stream, stream.advance(entry.token_id))
        content.append({**one, "top_logprobs": top})
    return content


def _entry(token_id: int, logprob: float, stream: TokenStream, piece: bytes) -> dict[str, Any]:
    return {
        "token": stream.shown(token_id, piece),
        "bytes": stream.bytes_or_none(token_id, piece),
        "logprob": max(logprob, _LEAST),
    }


class TextLogprobs:
    """Formats `choices[].logprobs` of a completion, piece by piece.

    Its lists are tokens, token_logprobs, top_logprobs and text_offset. A token of incomplete characters is shown as
    `bytes:\\xe2\\x80`. An offset is the start of the token in the choice's text, in characters. top_logprobs always
    include the token itself, so they may have one entry more than the client asks for.
    """

    def __init__(self, token_bytes: TokenBytes, *, previous: int | None = None) -> None:
        """`previous`: the token before the first; None at the start of a text."""
        self._tokens = token_bytes
        self._stream = TokenStream(token_bytes, previous=previous)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def prompt(self, prompt_ids: Sequence[int], entries: Sequence[TokenLogprob], text: str) -> dict[str, list[Any]]:
        """Return the part of a prompt that is echoed as `text`. entries: those of all tokens but the first."""
        first = self._piece([(prompt_ids[0], None)], text)
        rest = self._piece([(entry.token_id, entry) for entry in entries], text)
        self._offset = len(text)
        return {name: first[name] + rest[name] for name in first}

    def answer(self, entries: Sequence[TokenLogprob]) -> dict[str, list[Any]]:
        """Return the part of the next tokens of the answer."""
        return self._piece([(entry.token_id, entry) for entry in entries], "")

    def _piece(self, tokens: Sequence[tuple[int, TokenLogprob | None]], text: str) -> dict[str, list[Any]]:
        shown = no_text_logprobs()
        for token_id, entry in tokens:
            top: dict[str, float] | None = None
            if entry is not None:
                top = {}
                for other, logprob in (*entry.top, (token_id, entry.logprob)):
                    top.setdefault(self._spelling(other, self._stream.peek(other)), max(logprob, _LEAST))
            piece = self._stream.advance(token_id)
            shown["tokens"].append(self._spelling(token_id, piece))
            shown["token_logprobs"].append(None if entry is None else max(entry.logprob, _LEAST))
            shown["top_logprobs"].append(top)
            shown["text_offset"].append(self._offset)
            self._offset += len(self._utf8.decode(piece)) if piece else self._num_typed(token_id, text)
        return shown

    def _num_typed(self, token_id: int, text: str) -> int:
        """Return the characters of a control token that the prompt spells out; 0 for one that the tokenizer adds."""
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
    """Return `choices[].logprobs` of no tokens."""
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
