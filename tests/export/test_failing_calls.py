"""An export with a failing n-th system call on the cache publishes whole bundles or none."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from infrs_export.pipeline import export_model
from test_publish import visible

from infrs.bundle.files import verify_bundle
from infrs.errors import DiskFullError, ExportError

CALLS = frozenset(
    {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "os.chmod", "os.truncate"}
)
TAKE_SPACE = frozenset({"open", "os.mkdir", "os.rename"})  # no other finds the disk full, nor does opening to read


class FailingCall:
    """An audit hook that Python calls before each system call on a path. It cannot be removed, only disabled."""

    def __init__(self) -> None:
        self.root = ""
        self.count = self.at = self.number = 0
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.root or event not in CALLS or not arguments:
            return
        reads = event == "open" and not int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if self.number == errno.ENOSPC and (event not in TAKE_SPACE or reads):
            return
        if isinstance(arguments[0], str | os.PathLike) and os.fspath(arguments[0]).startswith(self.root):
            self.count += 1
            if self.count == self.at:
                raise OSError(self.number, os.strerror(self.number), str(arguments[0]))

    @contextmanager
    def of(self, root: Path, number: int, at: int = 0) -> Iterator[None]:
        """Let the call `at` of those below `root` that can fail with `number` fail so; 0: none, but count them."""
        self.root, self.count, self.at, self.number = str(root), 0, at, number
        try:
            yield
        finally:
            self.root = ""


FAILING_CALL = FailingCall()


@pytest.mark.slow
@pytest.mark.nightly("failing calls")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_failing_system_call_leaves_whole_bundles(
    tiny_folder: Path, tmp_path: Path, number: int, full: bool, figure: Callable[[str], None]
) -> None:
    with FAILING_CALL.of(tmp_path, number):
        export_model(str(tiny_folder), output=tmp_path / "counted", progress=False)
    total = FAILING_CALL.count
    assert total > (10 if number == errno.ENOSPC else 40)
    tried, full_disk = range(1, total + 1, 1 if full else 19), number == errno.ENOSPC
    for at in tried:
        cache = tmp_path / f"cache{at}"
        with FAILING_CALL.of(cache, number, at), contextlib.suppress(DiskFullError if full_disk else ExportError):
            export_model(str(tiny_folder), output=cache, progress=False)
        visible(cache)  # verifies what it finds
        # Forced, or there might be nothing to do: what a call left behind, the next export that makes a bundle removes.
        verify_bundle(export_model(str(tiny_folder), output=cache, progress=False, force=True))
        assert list((cache / ".tmp").iterdir()) == []
    figure(f"at {len(tried)} of {total} calls: whole bundles or none")
