"""Report the progress of a download instead of showing huggingface_hub's bars."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from huggingface_hub import file_download

from ..replaced import replaced

_MEGABYTE = 1_000_000


class _Arrivals:
    """A counter of the bytes of all files, which several threads download. It reports megabytes."""

    def __init__(self, total: int, report: Callable[[int, int], None]) -> None:
        self._total, self._report = total, report
        self._lock = threading.Lock()
        self._received = 0.0

    def update(self, num_bytes: float) -> None:
        """Count `num_bytes` more; huggingface_hub calls it as the bar's own method."""
        with self._lock:
            self._received = min(self._total, self._received + num_bytes)
            self._report(_megabytes(self._received), _megabytes(self._total))


@contextmanager
def arrivals(total: int, report: Callable[[int, int], None]) -> Iterator[None]:
    """Call `report(received, total)`, both in megabytes, as huggingface_hub downloads in this block. total: bytes.

    huggingface_hub 0.36 passes `tqdm_class` of `snapshot_download` to the bar of files, not to those of bytes.
    """
    counted = _Arrivals(total, report)

    def bar(*, initial: int = 0, _tqdm_bar: object = None, **_: Any) -> nullcontext[_Arrivals]:  # noqa: ANN401
        if _tqdm_bar is None:  # otherwise a retry resumes a file, and its first part is counted
            counted.update(initial)
        return nullcontext(counted)

    with replaced(file_download, "_get_progress_bar_context", bar):
        yield


def _megabytes(num_bytes: float) -> int:
    return -int(-num_bytes // _MEGABYTE)
