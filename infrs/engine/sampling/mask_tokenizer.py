"""A model's tokenizer as llguidance reads it.

llguidance can parse a `tokenizer.json` itself. It would then hold a second vocabulary: 90 MB and a second at 262,144
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from llguidance import LLTokenizer, TokenizerWrapper

from infrs.text.fragments import Fragments
from infrs.text.rust import raises_panics
from infrs.text.tokenizer import Tokenizer

# Tokens that a JSON string may contain. Inside a string, a mask takes 40 us instead of 6 ms at 262,144 tokens. The
# second slice is for strings with a maxLength. llguidance's own choice has two more, for 80 MB and no gain.
_SLICES = [r'[^"\\\x00-\x1F\x7F]{1,30}', r'[^"\\\x00-\x1F\x7F]{1,10}']
_CONTROL = b"\xff"  # begins the name of a token that stands in no text


class _Vocabulary(TokenizerWrapper):
    """What llguidance reads of a tokenizer. It copies `tokens`, and calls the object with fragments of text."""

    is_tokenizer_wrapper = True

    def __init__(self, fragments: Fragments, vocab_size: int, eos_id: int) -> None:
        self.eos_token_id = eos_id
        self.bos_token_id = None
        self.special_token_ids = [number for number in fragments.control_ids if number < vocab_size]
        spellings = fragments.spellings()
        last = max(spellings, default=-1)  # the logits may be wider
        self.tokens = [b"" if number <= last else _CONTROL + b"<[%d]>" % number for number in range(vocab_size)]
        for number, spelling in spellings.items():
            if number < vocab_size:
                self.tokens[number] = spelling
        self._encode = fragments.encode

    def __call__(self, fragment: str) -> list[int]:
        return self._encode(fragment)


def mask_tokenizer(tokenizer: Tokenizer, vocab_size: int, eos_ids: Sequence[int]) -> LLTokenizer | None:
    """Return the tokenizer for llguidance; None if its tokens have no certain bytes or `eos_ids` are out of range.

    vocab_size: the width of the logits. Each call of llguidance holds the GIL. Two calls let other threads run in
    between.
    """
    if not eos_ids or not all(0 <= number < vocab_size for number in eos_ids):
        return None
    try:
        vocabulary = _Vocabulary(Fragments(tokenizer), vocab_size, eos_ids[0])
        bare = raises_panics(LLTokenizer)(vocabulary, n_vocab=vocab_size, eos_token=list(eos_ids), slices=[])
        vocabulary.tokens = []
        return raises_panics(bare.with_slices)(_SLICES)
    except Exception:  # llguidance raises nothing finer
        return None
