"""Packed weights are spread over the memory nodes of a machine that has several, here one that is made up."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = 1 << 16


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "spread_memory"
    (extension,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    source = Path(__file__).with_name("spread_memory.cpp")
    command = ["c++", *extension["extra-compile-args"], "-Wall", "-Wextra", "-Werror", "-I", ROOT / "infrs" / "native"]
    subprocess.run([*command, source, "-o", path], check=True)
    return path


@pytest.mark.parametrize(
    ("nodes", "fault", "start", "size", "expected"),
    [
        ("1", 0, PAGE, 10 * PAGE, "0"),  # one node, as on most machines
        ("3", 0, PAGE, 10 * PAGE, f"{PAGE} {10 * PAGE} 3 1"),
        ("a5", 0, PAGE + 64, 10 * PAGE, f"{2 * PAGE} {9 * PAGE} a5 1"),  # only whole pages; nodes may be missing
        ("3", 0, PAGE + 64, PAGE, "0"),  # no whole page
        ("3", 0, PAGE + 64, 64, "0"),
        ("3", 1, PAGE, 10 * PAGE, "0"),  # the system does not list its nodes
        ("3", 2, PAGE, 10 * PAGE, f"{PAGE} {10 * PAGE} 3 0"),  # a container forbids it: not an error
    ],
)
def test_whole_pages_are_spread_over_the_nodes_of_the_process(
    program: Path, *, nodes: str, fault: int, start: int, size: int, expected: str
) -> None:
    command = [program, nodes, *map(str, (fault, start, size))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
