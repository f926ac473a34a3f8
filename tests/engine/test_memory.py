"""The memory that a process may use, by its own limits and those of its control groups."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from infrs.machine.memory import Memory, of_groups, read_memory

MIB = 1 << 20


def test_a_part_of_all_memory_is_free() -> None:
    memory = read_memory()
    assert MIB < memory.available < memory.total


def test_a_limit_on_address_space_lowers_available_memory() -> None:
    code = "from infrs.machine.memory import read_memory; print(*read_memory())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1024 * MIB, resource.RLIM_INFINITY)),
    )
    total, available = map(int, done.stdout.split())
    assert MIB < available < total == 1024 * MIB


@pytest.mark.parametrize(
    ("lines", "files", "limits"),
    [
        (["0::/"], {"memory.max": "1000", "memory.current": "300"}, [Memory(1000, 700)]),
        (["0::/"], {"memory.max": "max", "memory.current": "300"}, []),
        (
            ["0::/a/b"],
            {"a/memory.max": "1000", "a/memory.current": "300", "a/b/memory.max": "max"},
            [Memory(1000, 700)],
        ),
        (
            ["4:memory:/a", "0::/"],
            {"memory/a/memory.limit_in_bytes": "50\n", "memory/a/memory.usage_in_bytes": "60\n"},
            [Memory(50, -10)],
        ),
        # A container sees its own group as the root, whatever the machine calls it.
        (
            ["4:memory:/docker/1"],
            {"memory/memory.limit_in_bytes": "50", "memory/memory.usage_in_bytes": "10"},
            [Memory(50, 40)],
        ),
        ([], {}, []),
    ],
)
def test_control_groups_limit_the_memory(
    tmp_path: Path, lines: list[str], files: dict[str, str], limits: list[Memory]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(of_groups(tmp_path, lines)) == limits
