"""The bytes that each token adds to an answer's text, exactly."""

from __future__ import annotations

from infrs.text.detokenizer import BYTE_TOKEN
from infrs.text.tokenizer import Tokenizer

_SPACE = "<0x20>"


class TokenBytes:
    """Bytes of single tokens, such that those of an answer's tokens join to the UTF-8 of its text.

    Where the text is no UTF-8 it has U+FFFD and the bytes are the model's own. A control token adds nothing to a text.
    Safe to use from several threads.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        anchor = next((ids for text in ("a", "1", ".") if (ids := tokenizer.encode(text, special=False))), [])
        self._anchor = anchor[-1] if anchor else None
        self._known: dict[int, bytes] = {}  # of tokens that are the same everywhere; no more than the vocabulary

    def of(self, token_id: int, previous: int | None) -> bytes:
        """The bytes of a token after another, or at the start of a text: some tokenizers strip a space there."""
        if token_id in self._known:
            return self._known[token_id]
        token = self._tokenizer.token(token_id)
        if token is None or token_id in self._tokenizer.special_ids:
            piece = b""
        elif self._tokenizer.is_byte_level:
            piece = self._tokenizer.spelt_bytes(token_id)
        elif BYTE_TOKEN.fullmatch(token) and token != _SPACE:  # which some strip at the start, as other spaces
            piece = bytes([int(token[3:5], 16)])
        else:
            before = [] if previous is None else [previous]
            known = len(self._tokenizer.decode(before, skip_special=False))
            return self._tokenizer.decode([*before, token_id], skip_special=False)[known:].encode()
        self._known[token_id] = piece
        return piece

    def inside(self, token_id: int) -> bytes:
        """The bytes of a token after some word."""
        return self.of(token_id, self._anchor)

    def is_control(self, token_id: int) -> bool:
        """Whether a token has no text, or does not exist."""
        return token_id in self._tokenizer.special_ids or self._tokenizer.token(token_id) is None

    def spelling(self, token_id: int) -> str:
        """How to show a token: its text, a control token as it is written, U+FFFD for a part of a character."""
        if self.is_control(token_id):
            return self._tokenizer.token(token_id) or ""
        return self.inside(token_id).decode(errors="replace")
