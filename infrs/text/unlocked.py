"""Tokenise without the GIL: `Tokenizer.encode` of the `tokenizers` library holds it, batch calls release it."""

from __future__ import annotations

import os

from tokenizers import Encoding, Tokenizer

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a batch runs in the calling thread, not in a pool of threads


def encode_unlocked(tokenizer: Tokenizer, text: str, *, special: bool) -> Encoding:
    """Return the encoding of `tokenizer.encode` without offsets. Other threads can run during the call."""
    return tokenizer.encode_batch_fast([text], add_special_tokens=special)[0]
