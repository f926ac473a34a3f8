"""Find the control groups of this process, of versions 1 and 2, in its own mounts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

MOUNTED = "sys/fs/cgroup"


def own_groups(root: Path) -> list[str]:
    """Read the lines of /proc/self/cgroup, `number:controllers:path`; empty without control groups."""
    path = root / "proc/self/cgroup"
    return path.read_text().splitlines() if path.exists() else []


def folders(mounted: Path, lines: Iterable[str], controller: str) -> Iterator[Path]:
    """Yield the folders that can limit this process: those of its groups and their parents, up to the mount's root.

    In a container without its own namespace, `lines` has the machine's paths, but its group is the mount's root.
    """
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names = ["", "unified"]  # version 2, alone or together with version 1
        elif controller in controllers.split(","):
            names = list(dict.fromkeys([controllers, controller]))
        else:
            continue
        for name in names:
            group = mounted / name / path.lstrip("/")
            yield from (place for place in (group, *group.parents) if place.is_relative_to(mounted / name))
