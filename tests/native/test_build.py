"""The build lists every file of the kernels, and the compiler gives no warnings."""

from __future__ import annotations

import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "infrs" / "native").rglob("*.cpp"))
HEADERS = sorted((ROOT / "infrs" / "native").rglob("*.h"))
(EXTENSION,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]


def test_every_source_is_compiled_and_every_header_is_a_dependency() -> None:
    assert EXTENSION["sources"] == [path.relative_to(ROOT).as_posix() for path in SOURCES]
    assert EXTENSION["depends"] == [path.relative_to(ROOT).as_posix() for path in HEADERS]
    assert (
        ROOT / "MANIFEST.in"
    ).read_text() == "recursive-include infrs/native *.h\n"  # a source archive needs the headers


def test_no_folder_has_more_than_twelve_files() -> None:
    sizes = Counter(path.parent.name for path in SOURCES + HEADERS)
    assert {folder: size for folder, size in sizes.items() if size > 12} == {}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_source_compiles_without_warnings(path: Path) -> None:
    command = ["c++", *EXTENSION["extra-compile-args"], "-O0", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", [path for path in SOURCES + HEADERS if "third_party" not in path.parts], ids=lambda path: path.name
)
def test_a_file_has_short_lines_and_at_most_400_of_them(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 400
    assert [line for line in lines if len(line) > 120 or line != line.rstrip() or "\t" in line] == []
