"""The exact bytes that each token adds to an answer's text."""

from __future__ import annotations

from infrs.text.detokenizer import BYTE_TOKEN
from infrs.text.tokenizer import Tokenizer

_SPACE = "<0x20>"


class TokenBytes:
    """The bytes of single tokens. Those of an answer's tokens join to the UTF-8 of its text.

    For invalid UTF-8 the text has U+FFFD and the bytes are the model's own. A control token adds nothing. Thread-safe.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        anchor = next((ids for text in ("a", "1", ".") if (ids := tokenizer.encode(text, special=False))), [])
        self._anchor = anchor[-1] if anchor else None
        self._known: dict[int, bytes] = {}  # tokens with the same bytes everywhere; at most the vocabulary

    def of(self, token_id: int, previous: int | None) -> bytes:
        """Return the bytes of a token after another, or at the start of a text, where some tokenizers strip a space."""
        if token_id in self._known:
            return self._known[token_id]
        token = self._tokenizer.token(token_id)
        if token is None or token_id in self._tokenizer.special_ids:
            piece = b""
        elif self._tokenizer.is_byte_level:
            piece = self._tokenizer.spelt_bytes(token_id)
        elif (
            BYTE_TOKEN.fullmatch(token) and token != _SPACE
        ):  # some tokenizers strip it at the start, like other spaces
            piece = bytes([int(token[3:5], 16)])
        else:
            before = [] if previous is None else [previous]
            known = len(self._tokenizer.decode(before, skip_special=False))
            return self._tokenizer.decode([*before, token_id], skip_special=False)[known:].encode()
        self._known[token_id] = piece
        return piece

    def inside(self, token_id: int) -> bytes:
        """Return the bytes of a token after a word."""
        return self.of(token_id, self._anchor)

    def is_control(self, token_id: int) -> bool:
        """Return whether a token has no text, or does not exist."""
        return token_id in self._tokenizer.special_ids or self._tokenizer.token(token_id) is None

    def spelling(self, token_id: int) -> str:
        """Return a token's text for display: a control token as written, U+FFFD for part of a character."""
        if self.is_control(token_id):
            return self._tokenizer.token(token_id) or ""
        return self.inside(token_id).decode(errors="replace")
