"""Convert a stream of token ids to text, in whole characters."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from functools import partial

from infrs.text.tokenizer import Tokenizer, spelt_bytes

BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Detokenizer:
    """A detokenizer of one answer. All pieces together equal `Tokenizer.decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, shown: frozenset[int] = frozenset()) -> None:
        """Start an answer. `skip_special`: special tokens have no text, except those in `shown`."""
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids - shown if skip_special else frozenset()
        self._text: _BytesText | _DecodedText = (
            _BytesText(tokenizer.spelt_bytes) if tokenizer.joins_bytes else _DecodedText(tokenizer)
        )

    def feed(self, token_id: int) -> str:
        """Return the text that this token completes; it may be empty."""
        return "" if token_id in self._skipped else self._text.feed(token_id)

    def flush(self) -> str:
        """Return the text of withheld tokens at the end, with U+FFFD for incomplete characters."""
        return self._text.flush()


class _BytesText:
    """A detokenizer for a tokenizer that joins the bytes of its tokens."""

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """Return the characters that a token completes."""
        return self._utf8.decode(self._bytes_of(token_id))

    def flush(self) -> str:
        """Return the rest of an incomplete character."""
        return self._utf8.decode(b"", final=True)


class _DecodedText:
    """A detokenizer for any other tokenizer, based on its decoder.

    A token waits while its bytes may end inside a character. The decoder may strip a leading space, drop `##` and more.
    So it decodes the previous tokens with and without the waiting ones; the difference is the new text. Each token is
    decoded a small, fixed number of times.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token = tokenizer.token
        self._decode = partial(tokenizer.decode, skip_special=False)
        self._ends_open: Callable[[str], bool] = _Utf8Follower() if tokenizer.is_byte_level else _is_byte_token
        self._before: list[int] = []  # the tokens of the last piece of text
        self._waiting: list[int] = []
        self._begun = False  # whether any text has come out

    def feed(self, token_id: int) -> str:
        """Return the text that a token completes."""
        token = self._token(token_id)
        if token is None:
            return ""
        self._waiting.append(token_id)
        return "" if self._ends_open(token) else self.flush()

    def flush(self) -> str:
        """Return the text of the waiting tokens."""
        known = len(self._decode(self._before))
        text = self._decode(self._before + self._waiting)[known:]
        if text:
            self._before, self._begun = self._waiting, True
        elif not self._begun:
            self._before += self._waiting  # all text was stripped so far: the next token is not the first
        self._waiting = []
        return text


class _Utf8Follower:
    """A UTF-8 decoder for a byte-level vocabulary, which spells each byte as one character."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, token: str) -> bool:
        """Return whether a character is incomplete after this token."""
        self._utf8.decode(spelt_bytes(token))
        return bool(self._utf8.getstate()[0])


def _is_byte_token(token: str) -> bool:
    """Return whether a token is a single byte, `<0xE2>`. Successive ones are decoded together."""
    return BYTE_TOKEN.fullmatch(token) is not None
