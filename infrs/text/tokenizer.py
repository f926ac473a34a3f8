"""Convert text to token ids and back, with a bundle's `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import orjson
from tokenizers import Encoding as Part  # a text as tokens, without special tokens
from tokenizers import Tokenizer as Backend

from infrs.errors import BundleError, ContextLengthError
from infrs.text.bounds.growth import check_growth
from infrs.text.bounds.shortest import Shortest
from infrs.text.quoting import Quoter
from infrs.text.rust import encode_unlocked, raises_panics

__all__ = ["TOKENIZER_FILE", "Part", "Tokenizer", "spelt_bytes"]

TOKENIZER_FILE = "tokenizer.json"


class Tokenizer:
    """A bundle's tokenizer. Thread-safe.

    backend: the tokenizer of the `tokenizers` library; do not change it. special_ids: the control tokens, which
    `decode` omits by default. is_byte_level: whether tokens are spelt in GPT-2's alphabet of bytes. joins_bytes:
    whether `decode` only joins those bytes.
    """

    @raises_panics
    def __init__(self, definition: str | bytes) -> None:
        """Parse a tokenizer. `definition`: the text of a `tokenizer.json`. Raises ValueError if it is invalid."""
        try:
            self.backend = Backend.from_buffer(definition.encode() if isinstance(definition, str) else definition)
        except Exception as error:  # tokenizers raises nothing finer
            raise ValueError(str(error)) from error
        check_growth(self.backend)
        self.backend.no_truncation()
        self.backend.no_padding()
        self._quoter = Quoter(self.backend)
        added = self.backend.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        decoder = self.backend.decoder
        state = b"{}" if decoder is None else decoder.__getstate__()  # its JSON
        self.is_byte_level = b'"ByteLevel"' in state
        self.joins_bytes = orjson.loads(state).get("type") == "ByteLevel"
        self._pieces: dict[int, bytes] = {}  # filled on use: at most the vocabulary

    @cached_property
    def _shortest(self) -> Shortest:
        return Shortest(self.backend, spelt_bytes)

    def prepare(self) -> None:
        """Make what the first long text needs: it takes 0.1 s at 49,152 tokens and holds the interpreter lock.

        It takes time for each id up to `largest_id`, so check that first.
        """
        _ = self._shortest

    @classmethod
    def load(cls, bundle: Path) -> Tokenizer:
        """Read `bundle/tokenizer.json`. Raises BundleError if it is absent or not a tokenizer."""
        path = bundle / TOKENIZER_FILE
        try:
            return cls(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read as a tokenizer ({error}); export the model again") from error

    @property
    def vocab_size(self) -> int:
        """Return the number of token ids, with added tokens. A model's logits can be wider, with padding."""
        return int(self.backend.get_vocab_size())

    @property
    def largest_id(self) -> int:
        """Return the largest token id; -1 without tokens."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1)

    def token(self, token_id: int) -> str | None:
        """Return a token as the vocabulary spells it; None if the id has no token."""
        token: str | None = self.backend.id_to_token(token_id)
        return token

    def spelt_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token of a byte-level vocabulary; empty if the id has no token."""
        piece = self._pieces.get(token_id)
        if piece is None:
            token = self.token(token_id)
            if token is None:
                return b""
            piece = self._pieces[token_id] = spelt_bytes(token)
        return piece

    def token_id(self, token: str) -> int | None:
        """Return the id of a token as the vocabulary spells it; None if there is none."""
        token_id: int | None = self.backend.token_to_id(token)
        return token_id

    @raises_panics
    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text. A special token such as `<|im_end|>` is one id unless it is quoted.

        `special` adds the tokens that the model expects around plain text, such as BOS; a chat template has its own.
        Raises RequestError if quoted text can only be written with a special token.
        """
        if self._quoter.is_quoted(text):
            return self._quoter.encode(text, special=special)
        ids: list[int] = encode_unlocked(self.backend, text, special=special).ids
        return ids

    def num_special(self, *, is_pair: bool) -> int:
        """Return the number of special tokens that the model expects around a text, or around and between two."""
        return int(self.backend.num_special_tokens_to_add(is_pair=is_pair))

    @raises_panics
    def part(self, text: str) -> Part:
        """Return a text as a part of a pair, or alone. A part is tokenised once and may belong to many pairs."""
        return encode_unlocked(self.backend, text, special=False)

    @raises_panics
    def joined(self, first: Part, second: Part | None = None) -> tuple[list[int], list[int]]:
        """Return the token ids of one or two parts with special tokens, and the type of each token: 0 or 1."""
        joined = self.backend.post_process(first, second, True)
        return joined.ids, joined.type_ids

    @raises_panics
    def check_length(self, text: str, limit: int, param: str) -> None:
        """Raise ContextLengthError, with the field `param`, if a text certainly has more than `limit` tokens.

        This is much cheaper than `encode`, but misses texts that are only a few times too long.
        """
        if len(text.encode(errors="ignore")) <= limit:
            return  # a token has a byte or more
        num_tokens = self._shortest.num_tokens(self._quoter.unquote(text))
        if num_tokens > limit:
            raise ContextLengthError(
                f"{param} has {num_tokens} tokens or more, but at most {limit} are allowed; shorten {param}",
                param=param,
                num_tokens=num_tokens,
                max_tokens=limit,
            )

    @raises_panics
    def quote(self, text: str) -> str:
        """Quote a text for a prompt: its special tokens are encoded as plain characters."""
        return self._quoter.quote(text)

    @raises_panics
    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of ids. Invalid UTF-8 becomes U+FFFD; ids without a token are skipped."""
        text: str = self.backend.decode_batch([ids], skip_special_tokens=skip_special)[0]  # releases the GIL
        return text


def spelt_bytes(token: str) -> bytes:
    """Return the bytes of a token of a byte-level vocabulary."""
    try:
        return bytes(map(_BYTE_OF.__getitem__, token))
    except KeyError:  # an added token, spelt as plain text
        return token.encode()


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's alphabet: printable Latin-1 is itself, the other bytes are U+0100 onwards, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
