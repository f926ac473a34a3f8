"""Measure the memory that this process can use: that of the machine, within all limits."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from infrs.machine import cgroups

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_ROOT = Path("/")
_limiting = threading.Lock()
# The files with limit and usage of a control group, in version 2 and version 1.
_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


class Memory(NamedTuple):
    """Bytes of memory: all that this process may use, and those of them that are free."""

    total: int
    available: int

    def share(self, count: int) -> Memory:
        """Return the part of each of `count` equal users."""
        return Memory(self.total // count, self.available // count)


def read_memory() -> Memory:
    """Return the minimum for the system, the control groups and the limit of the address space."""
    groups = of_groups(_ROOT / cgroups.MOUNTED, cgroups.own_groups(_ROOT))
    limits = [_of_system(_ROOT), *groups, *_of_address_space(_ROOT)]
    return Memory(min(limit.total for limit in limits), max(0, min(limit.available for limit in limits)))


def return_free_memory() -> None:
    """Give memory that was freed back to the system. glibc keeps it otherwise; other libraries do nothing here."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@contextmanager
def limit_growth(num_bytes: int, root: Path = _ROOT) -> Iterator[None]:
    """Let allocations of this process fail once it has taken `num_bytes` more, until the block ends. Linux only.

    The limit is RLIMIT_DATA, which counts private memory that can be written, touched or not. One block runs at a time.
    """
    status = root / "proc/self/status"
    if resource is None or not status.exists():
        yield
        return
    with _limiting:
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = (int(fields["VmData"].split()[0]) << 10) + num_bytes
        resource.setrlimit(
            resource.RLIMIT_DATA,
            (min(limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY), hard),
        )
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _of_system(root: Path) -> Memory:
    meminfo = root / "proc/meminfo"
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return Memory(*(int(fields[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable")))
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    # macOS does not report free pages here.
    return Memory(total, os.sysconf("SC_AVPHYS_PAGES") * page if "SC_AVPHYS_PAGES" in os.sysconf_names else total // 2)


def of_groups(mounted: Path, lines: list[str]) -> Iterator[Memory]:
    """Yield the memory of each control group. `lines`: of /proc/self/cgroup, `number:controllers:path`."""
    for folder in cgroups.folders(mounted, lines, "memory"):
        for limit, used in _FILES:
            if (folder / limit).exists() and (folder / used).exists():
                text = (folder / limit).read_text().strip()
                if text.isdigit():  # not "max"
                    yield Memory(int(text), int(text) - int((folder / used).read_text()))


def _of_address_space(root: Path) -> Iterator[Memory]:
    """Yield the bytes within `ulimit -v`, if it is set. Mapped memory counts, even if it is unused."""
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and (root / "proc/self/statm").exists():
        mapped = int((root / "proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        yield Memory(limit, limit - mapped)
