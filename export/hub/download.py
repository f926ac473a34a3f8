"""Download files into Hugging Face's cache: resumed, counted, and no longer than the Hub says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpx2  # huggingface_hub's own client
from huggingface_hub import constants, file_download, get_session, hf_hub_download, hf_raise_for_status
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError

from infrs.errors import SourceError, without_password

from ..replaced import replaced
from .http_client import FILE

ATTEMPTS = 5  # per file
PAUSE = 1.0  # s, between attempts
_THREADS = 8
_MEGABYTE = 1_000_000


class Arrivals:
    """A counter of the bytes of all files, which several threads download. It reports megabytes."""

    def __init__(self, total: int = 0, report: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Start at 0 of `total` bytes. `report`: called with the received and the total megabytes."""
        self._total, self._report = total, report
        self._lock = threading.Lock()
        self._received = 0

    def add(self, num_bytes: int) -> None:
        """Count `num_bytes` more; fewer if negative."""
        with self._lock:
            self._received += num_bytes
            self._report(_megabytes(min(self._total, self._received)), _megabytes(self._total))


def download(model: str, revision: str, names: list[str], arrivals: Arrivals) -> list[Path]:
    """Download files of a model. Return their places in Hugging Face's cache.

    The first error stops all downloads. Raises SourceError and the errors of huggingface_hub, httpx2 and the system.
    """
    stop = threading.Event()
    fetch = _Downloads(arrivals, stop).fetch
    # huggingface_hub's own function drops what has arrived when a run ends.
    with (
        replaced(file_download, "_download_to_tmp_and_move", fetch),
        ThreadPoolExecutor(_THREADS, "infrs-download") as pool,
    ):
        try:
            files = [pool.submit(hf_hub_download, model, name, revision=revision) for name in names]
            for file in wait(files, return_when=FIRST_EXCEPTION).done:
                file.result()
            return [Path(file.result()) for file in files]
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Downloads:
    """Downloads of several threads. stop: once set, all of them end."""

    arrivals: Arrivals
    stop: threading.Event

    def fetch(
        self,
        *,
        incomplete_path: Path,
        destination_path: Path,
        url_to_download: str,
        headers: dict[str, str],
        expected_size: int | None,
        filename: str,
        **_: object,
    ) -> None:
        """Download a file after the part that an earlier run left. The arguments are those of huggingface_hub.

        huggingface_hub holds the file's lock. Where locks have no effect, the check of the hash finds a mixed file.
        """
        if destination_path.exists():
            return
        if expected_size is None:
            raise FileMetadataError(f"{url_to_download} has no size")
        with incomplete_path.open("ab") as file:
            self.arrivals.add(file.tell())
            if file.tell() > expected_size:
                self._empty(file)
            left = ATTEMPTS
            while file.tell() != expected_size:
                try:
                    self._append(file, url_to_download, headers, expected_size)
                except (httpx2.TransportError, HfHubHTTPError) as error:
                    left -= 1
                    if not left or (isinstance(error, HfHubHTTPError) and not error.response.is_server_error):
                        raise
                    time.sleep(PAUSE)
                else:
                    if file.tell() != expected_size:
                        hub = without_password(constants.ENDPOINT)
                        raise SourceError(f"{filename} was not as long as {hub} had said; run the same command again")
        incomplete_path.replace(destination_path)

    def _append(self, file: BinaryIO, url: str, headers: dict[str, str], size: int) -> None:
        """Append what `file` lacks. If the Hub sends the whole again, empty the file first."""
        begin = file.tell()
        ranged = headers | ({"Range": f"bytes={begin}-"} if begin else {})
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=ranged, timeout=timeout, extensions=FILE) as response:
            hf_raise_for_status(response)
            if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                self._empty(file)
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
                raise FileMetadataError(f"{url} answers another range than bytes={begin}-")
            for piece in response.iter_raw():
                if self.stop.is_set():
                    raise CancelledError
                if file.tell() + len(piece) > size:
                    break
                file.write(piece)
                self.arrivals.add(len(piece))

    def _empty(self, file: BinaryIO) -> None:
        self.arrivals.add(-file.tell())
        file.seek(0)
        file.truncate()


def _megabytes(num_bytes: int) -> int:
    return -(-num_bytes // _MEGABYTE)
