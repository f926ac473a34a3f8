"""Call libraries in Rust: convert their panics to ValueError, tokenise without the GIL, copy a tokenizer for free.

As a BaseException, a panic would end its thread. `Tokenizer.encode` of the `tokenizers` library holds the GIL; its
batch calls release it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import orjson
from tokenizers import Encoding, Tokenizer, models

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a batch runs in the calling thread, not in a pool of threads

P = ParamSpec("P")
T = TypeVar("T")


def raises_panics(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that it raises ValueError if a library panics."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # pyo3 makes one in each library and exports none
                raise
            raise ValueError(f"a library failed: {str(error)[:300]}") from None

    return run


def encode_unlocked(tokenizer: Tokenizer, text: str, *, special: bool) -> Encoding:
    """Return the encoding of `tokenizer.encode` without offsets. Other threads can run during the call."""
    return tokenizer.encode_batch_fast([text], add_special_tokens=special)[0]


def share_model(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy of a tokenizer that shares its vocabulary and merges, which take 100 MB at 262,144 tokens.

    Its steps and added tokens are its own.
    """
    copy = _with_steps(Tokenizer(tokenizer.model), tokenizer)
    added = tokenizer.get_added_tokens_decoder()
    copy.add_tokens([token for _, token in sorted(added.items())])
    if {number: str(token) for number, token in copy.get_added_tokens_decoder().items()} != {
        number: str(token) for number, token in added.items()
    }:  # ids that do not follow the order of the tokens
        copy = Tokenizer.from_str(tokenizer.to_str())
        copy.no_truncation()
        copy.no_padding()
    return copy


def steps_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the `tokenizer.json` of a tokenizer without its vocabulary, merges and added tokens."""
    parts: dict[str, Any] = orjson.loads(_with_steps(Tokenizer(models.BPE()), tokenizer).to_str())
    return parts


def _with_steps(tokenizer: Tokenizer, source: Tokenizer) -> Tokenizer:
    for step in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if (value := getattr(source, step)) is not None:
            setattr(tokenizer, step, value)
    return tokenizer
