"""Call libraries in Rust: convert their panics to ValueError, and tokenise without the GIL.

As a BaseException, a panic would end its thread. `Tokenizer.encode` of the `tokenizers` library holds the GIL; its
batch calls release it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tokenizers import Encoding, Tokenizer

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
