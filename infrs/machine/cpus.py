"""Count the compute threads: physical cores that this process may run on, within its CPU quota."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

from infrs.machine import cgroups

logger = logging.getLogger(__name__)

_ROOT = Path("/")


def default_threads(root: Path = _ROOT, cpus: set[int] | None = None) -> int:
    """Count the default threads of a session: one for each physical core, within the CPU quota.

    A quota is rounded down, but not below 1; the rest is for the HTTP threads. More threads use up the quota early in
    each period, and then all threads stop. With a quota of one CPU, a decode step takes 9.1 ms on one thread and
    14.8 ms on two.

    root: the folder of `proc` and `sys`. cpus: the CPUs that this process may run on; None: ask the system.
    """
    cores = count_cores(root, affinity() if cpus is None else cpus)
    return max(1, math.floor(min(cores, cpu_quota(root))))


def warn_above_limit(threads: int, root: Path = _ROOT, cpus: set[int] | None = None) -> None:
    """Log a warning if `threads` are more than this process has CPUs."""
    limit = min(len(affinity() if cpus is None else cpus), cpu_quota(root))
    if threads > limit:
        logger.warning(
            "engine.threads is %d, but this process may use %g CPUs; more threads than CPUs are slower; set it to 0",
            threads,
            limit,
        )


def affinity() -> set[int]:
    """Return the logical CPUs that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def count_cores(root: Path, cpus: set[int]) -> int:
    """Count the physical cores among logical CPUs: two threads of one core share its multipliers."""
    cores = set()
    for cpu in cpus:
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        cores.add(path.read_text().strip() if path.exists() else str(cpu))
    return len(cores)


def cpu_quota(root: Path) -> float:
    """Return the CPUs that the control groups and their parents allow; infinite without a limit."""
    folders = cgroups.folders(root / cgroups.MOUNTED, cgroups.own_groups(root), "cpu")
    return min((_quota(folder) for folder in folders), default=math.inf)


def _quota(folder: Path) -> float:
    """Return the limit of one group. `cpu.max` has quota and period (version 2); version 1 has a file for each."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
        except (OSError, ValueError):  # it has no such file, or an empty one
            continue
        if quota.isdigit():  # not "max", not -1
            return int(quota) / max(1, int(period))
    return math.inf
