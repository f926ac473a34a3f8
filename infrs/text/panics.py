"""Convert panics of Rust libraries to ValueError: as a BaseException a panic would end its thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

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
