"""Encode special tokens inside messages as plain characters.

A chat template writes `<|im_start|>` to mark a role. The same characters inside a message must stay characters, or a
user could write system messages. The tokenizer sees only the rendered prompt. So each special token in a message is
replaced by a mark before rendering. After rendering, marks become the typed characters again, and the template's own
special tokens become aliases. A copy of the tokenizer, with the aliases as its only special tokens, encodes the whole
text. So merges, spaces and prefixes at the boundaries are those of the tokenizer.
"""

from __future__ import annotations

import re
import secrets
from functools import cached_property

from tokenizers import AddedToken, Tokenizer, models

from infrs.errors import RequestError
from infrs.text.alternatives import any_of
from infrs.text.rust import encode_unlocked, share_model


class Quoter:
    """A quoter of messages for one tokenizer, and an encoder of prompts that contain them. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Read the special tokens."""
        self._tokenizer = tokenizer
        self._special = {i: token for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._ids = {token.content: i for i, token in self._special.items() if token.content}
        # A mark consists of digits, which no template changes: trim, upper, tojson.
        self._nonce = f"{secrets.randbelow(10**20):020}"
        any_special = any_of(self._ids)
        self._any_special = re.compile(any_special)
        any_mark = rf"{self._nonce}(\d{{8}})"
        self._any_mark = re.compile(any_mark)
        self._any_special_or_mark = re.compile(f"{any_special}|{any_mark}")
        self._finder = _finder(tokenizer, [token for token in self._special.values() if token.normalized])

    def quote(self, text: str) -> str:
        """Replace each special token in `text` by an unpredictable mark.

        Raises RequestError if normalisation by the tokenizer would create a special token.
        """
        text = self._any_special.sub(lambda match: self._mark(match[0]), text)
        if self._finder is not None and any(encode_unlocked(self._finder, text, special=False).ids):
            raise _unwritable()
        return text

    def is_quoted(self, text: str) -> bool:
        """Return whether the text contains a mark, so that `encode` must be used."""
        return self._nonce in text

    def unquote(self, text: str) -> str:
        """Replace the marks in a text by their special tokens."""
        return self._any_mark.sub(lambda match: self._special[int(match[1])].content, text)

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a prompt with marks; `special` as in `Tokenizer.encode`.

        Raises RequestError if the vocabulary can only write a quoted special token as itself.
        """
        plain, originals = self._plain

        def swap(match: re.Match[str]) -> str:
            return self._special[int(match[1])].content if match[1] else self._mark(match[0])

        encoding = encode_unlocked(plain, self._any_special_or_mark.sub(swap, text), special=False)
        if not self._special.keys().isdisjoint(encoding.ids):
            raise _unwritable()
        ids = plain.post_process(encoding, None, special).ids
        return [originals.get(token_id, token_id) for token_id in ids]

    def _mark(self, content: str) -> str:
        return f"{self._nonce}{self._ids[content]:08}"

    @cached_property
    def _plain(self) -> tuple[Tokenizer, dict[int, int]]:
        """Return the tokenizer with aliases for special tokens, and the special id of each alias id."""
        plain = share_model(self._tokenizer)
        plain.encode_special_tokens = True  # as plain characters
        marks = {self._mark(content): self._special[token_id] for content, token_id in self._ids.items()}
        plain.add_tokens(
            [
                AddedToken(mark, lstrip=token.lstrip, rstrip=token.rstrip, single_word=False, normalized=False)
                for mark, token in marks.items()
            ]
        )
        ids = {token.content: token_id for token_id, token in plain.get_added_tokens_decoder().items()}
        return plain, {ids[mark]: self._ids[token.content] for mark, token in marks.items()}


def _finder(tokenizer: Tokenizer, special: list[AddedToken]) -> Tokenizer | None:
    """Return a tokenizer that encodes `special` in normalised text, and other text as 0; None if it finds nothing.

    `normalize_str` would hold the GIL for a long text.
    """
    if tokenizer.normalizer is None or not special:
        return None
    finder = Tokenizer(models.WordLevel({"": 0}, unk_token=""))
    finder.normalizer = tokenizer.normalizer
    finder.add_special_tokens(special)
    return finder


def _unwritable() -> RequestError:
    return RequestError(
        "a message holds one of the model's control tokens, which this model cannot read as plain text; take it out",
        param="messages",
    )
