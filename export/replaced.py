"""Replace an attribute of a library while a block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Set `owner.name` to `value` for the duration of the block, then restore it.

    Last resort, for what a library offers neither a parameter nor a subclass for; each caller states what that is. All
    threads see the replacement, so only the exporter uses it, which loads one model at a time.
    """
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
