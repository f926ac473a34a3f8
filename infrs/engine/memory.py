"""How much memory this process may still take: what the machine has left, and each limit that was set to it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
# Limit and use of a control group, where its hierarchy is mounted, and the controllers its line in `cgroup` names.
_VERSIONS = (
    ("memory.max", "memory.current", "", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory", "memory"),
)


def available_bytes() -> int:
    """The least of what the system, the control groups and the limit on address space leave."""
    lines = (_PROC / "self/cgroup").read_text().splitlines() if (_PROC / "self/cgroup").exists() else []
    return max(0, min(_of_system(), *left_by_groups(_GROUPS, lines), *_of_address_space()))


def _of_system() -> int:
    meminfo = _PROC / "meminfo"
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) << 10
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def left_by_groups(mounted: Path, lines: list[str]) -> Iterator[int]:
    """What each control group above this process leaves. `lines`: of /proc/self/cgroup, `number:controllers:path`."""
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for limit, used, folder, controllers in _VERSIONS:
        root = mounted / folder
        group = root / own.get(controllers, "/").lstrip("/")
        for place in (group, *group.parents):
            if place.is_relative_to(root) and (place / limit).exists() and (place / used).exists():
                text = (place / limit).read_text().strip()
                if text.isdigit():  # not "max"
                    yield int(text) - int((place / used).read_text())


def _of_address_space() -> Iterator[int]:
    """What `ulimit -v` leaves: it counts what was mapped, whether it was touched or not."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and (_PROC / "self/statm").exists():
        yield limit - int((_PROC / "self/statm").read_text().split()[0]) * resource.getpagesize()
