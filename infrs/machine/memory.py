"""How much memory this process may still take: what the machine has left, and each limit that was set to it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from infrs.machine import cgroups

_ROOT = Path("/")
_PROC = _ROOT / "proc"
# Limit and use of a control group, of version 2 and of version 1.
_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def available_bytes() -> int:
    """The least of what the system, the control groups and the limit on address space leave."""
    groups = left_by_groups(_ROOT / cgroups.MOUNTED, cgroups.own_groups(_ROOT))
    return max(0, min(_of_system(), *groups, *_of_address_space()))


def _of_system() -> int:
    meminfo = _PROC / "meminfo"
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) << 10
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def left_by_groups(mounted: Path, lines: list[str]) -> Iterator[int]:
    """What each control group above this process leaves. `lines`: of /proc/self/cgroup, `number:controllers:path`."""
    for folder in cgroups.folders(mounted, lines, "memory"):
        for limit, used in _FILES:
            if (folder / limit).exists() and (folder / used).exists():
                text = (folder / limit).read_text().strip()
                if text.isdigit():  # not "max"
                    yield int(text) - int((folder / used).read_text())


def _of_address_space() -> Iterator[int]:
    """What `ulimit -v` leaves: it counts what was mapped, whether it was touched or not."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and (_PROC / "self/statm").exists():
        yield limit - int((_PROC / "self/statm").read_text().split()[0]) * resource.getpagesize()
