"""Measure the memory that this process can still use: free memory of the machine, within all limits."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from infrs.machine import cgroups

_ROOT = Path("/")
_PROC = _ROOT / "proc"
# The files with limit and usage of a control group, in version 2 and version 1.
_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def available_bytes() -> int:
    """Return the free bytes: the minimum for the system, the control groups and the limit of the address space."""
    groups = left_by_groups(_ROOT / cgroups.MOUNTED, cgroups.own_groups(_ROOT))
    return max(0, min(_of_system(), *groups, *_of_address_space()))


def _of_system() -> int:
    meminfo = _PROC / "meminfo"
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) << 10
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def left_by_groups(mounted: Path, lines: list[str]) -> Iterator[int]:
    """Yield the free bytes of each control group. `lines`: of /proc/self/cgroup, `number:controllers:path`."""
    for folder in cgroups.folders(mounted, lines, "memory"):
        for limit, used in _FILES:
            if (folder / limit).exists() and (folder / used).exists():
                text = (folder / limit).read_text().strip()
                if text.isdigit():  # not "max"
                    yield int(text) - int((folder / used).read_text())


def _of_address_space() -> Iterator[int]:
    """Yield the free bytes within `ulimit -v`, if it is set. Mapped memory counts, even if it is unused."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and (_PROC / "self/statm").exists():
        yield limit - int((_PROC / "self/statm").read_text().split()[0]) * resource.getpagesize()
