"""How much of a download has arrived, for this program's own progress, in the place of huggingface_hub's bars."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from huggingface_hub import file_download

_MEGABYTE = 1_000_000


class _Arrivals:
    """Stands for the bars of all files, which several threads fetch; told of bytes, it tells megabytes."""

    def __init__(self, total: int, tell: Callable[[int, int], None]) -> None:
        self._total, self._tell = total, tell
        self._lock = threading.Lock()
        self._received = 0.0

    def update(self, num_bytes: float) -> None:
        """So many more have arrived."""
        with self._lock:
            self._received = min(self._total, self._received + num_bytes)
            self._tell(_megabytes(self._received), _megabytes(self._total))


@contextmanager
def arrivals(total: int, tell: Callable[[int, int], None]) -> Iterator[None]:
    """While it lasts, `tell` hears how much of `total` bytes huggingface_hub has fetched: both in megabytes."""
    counted = _Arrivals(total, tell)

    def bar(*, initial: int = 0, _tqdm_bar: object = None, **_: Any) -> nullcontext[_Arrivals]:  # noqa: ANN401
        if _tqdm_bar is None:  # else a file is gone on with whose beginning is counted
            counted.update(initial)
        return nullcontext(counted)

    with patch.object(file_download, "_get_progress_bar_context", bar):
        yield


def _megabytes(num_bytes: float) -> int:
    return -int(-num_bytes // _MEGABYTE)
