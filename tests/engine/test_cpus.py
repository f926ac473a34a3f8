"""The default number of threads follows the cores of the machine and the limits of its control groups."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from infrs.machine.cpus import default_threads, warn_above_limit

CGROUP = "proc/self/cgroup"
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu"
Root = Callable[..., Path]


def siblings(*cores: str) -> dict[str, str]:
    """Return the topology of CPUs 0, 1, ...: for each CPU the threads of its core."""
    return {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{core}\n" for cpu, core in enumerate(cores)
    }


def v1(group: str, quota: int, period: int = 100_000, mount: str = V1) -> dict[str, str]:
    return {f"{mount}{group}/cpu.cfs_quota_us": f"{quota}\n", f"{mount}{group}/cpu.cfs_period_us": f"{period}\n"}


def v2(group: str, quota: str, mount: str = V2) -> dict[str, str]:
    return {f"{mount}{group}/cpu.max": f"{quota} 100000\n"}


def groups(*lines: str) -> dict[str, str]:
    return {CGROUP: "".join(f"{line}\n" for line in lines)}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


EIGHT = set(range(8))
OLD = groups("4:cpu,cpuacct:/docker/abc", "2:memory:/docker/abc", "0::/init")
THREADS = {
    "no files at all": ({}, EIGHT, 8),
    "two threads a core": (siblings("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"), EIGHT, 4),
    "a part of the cores": (siblings("0-1", "0-1", "2-3", "2-3"), {0, 1, 2}, 2),
    "version 2, no limit": (groups("0::/") | v2("", "max"), EIGHT, 8),
    "version 2, a namespace's root": (groups("0::/") | v2("", "200000"), EIGHT, 2),
    "version 2, the own group": (groups("0::/a/b") | v2("/a/b", "300000"), EIGHT, 3),
    "version 2, a parent's limit": (groups("0::/a/b") | v2("/a", "200000") | v2("/a/b", "500000"), EIGHT, 2),
    "version 2, no limit below a parent's": (groups("0::/a/b") | v2("/a", "200000") | v2("/a/b", "max"), EIGHT, 2),
    "version 2, a path from outside": (groups("0::/../x") | v2("", "200000"), EIGHT, 2),
    "version 2, another's group": (groups("0::/a") | v2("/b", "100000"), EIGHT, 8),
    "version 2 next to version 1": (groups("0::/a") | v2("/a", "200000", f"{V2}/unified"), EIGHT, 2),
    "version 1, no limit": (groups("1:cpu:/") | v1("", -1), EIGHT, 8),
    "version 1, the own group": (groups("1:cpu:/a") | v1("/a", 200_000), EIGHT, 2),
    "version 1, a parent's limit": (groups("1:cpu:/a/b") | v1("/a", 100_000) | v1("/a/b", -1), EIGHT, 1),
    "version 1, another period": (groups("1:cpu:/a") | v1("/a", 100_000, 25_000), EIGHT, 4),
    "version 1, the machine's path in a container": (OLD | v1("", 300_000), EIGHT, 3),
    "version 1, a folder named by both controllers": (
        OLD | v1("/docker/abc", 300_000, mount=f"{V2}/cpu,cpuacct"),
        EIGHT,
        3,
    ),
    "another controller's group": (groups("1:cpuset:/a") | v1("/a", 100_000), EIGHT, 8),
    "half a CPU": (groups("0::/") | v2("", "50000"), EIGHT, 1),
    "one and a half": (groups("0::/") | v2("", "150000"), EIGHT, 1),
    "almost three": (groups("0::/") | v2("", "299000"), EIGHT, 2),
    "more than the machine has": (groups("0::/") | v2("", "6400000"), EIGHT, 8),
    "more than cores, two threads each": (
        siblings("0-1", "0-1", "2-3", "2-3") | groups("0::/") | v2("", "300000"),
        {0, 1, 2, 3},
        2,
    ),
    "an empty file": (groups("0::/") | {f"{V2}/cpu.max": ""}, EIGHT, 8),
}


@pytest.mark.parametrize(("files", "cpus", "threads"), THREADS.values(), ids=THREADS.keys())
def test_threads_are_cores_within_the_quota(root: Root, files: dict[str, str], cpus: set[int], threads: int) -> None:
    assert default_threads(root(files), cpus) == threads


def test_this_machine_has_at_least_one_thread() -> None:
    assert default_threads() >= 1


@pytest.mark.parametrize(
    ("threads", "quota", "warned"),
    [
        (0, "100000", None),
        (1, "100000", None),
        (2, "100000", "1"),
        (2, "150000", "1.5"),
        (8, "max", None),
        (9, "max", "8"),
    ],
)
def test_more_threads_than_cpus_give_a_warning(
    root: Root, threads: int, quota: str, warned: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_above_limit(threads, root(groups("0::/") | v2("", quota)), EIGHT)
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == (warned is not None)
    assert all(f"engine.threads is {threads}, but this process may use {warned} CPUs" in text for text in found)
