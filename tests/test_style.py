"""Format, lint and types are part of the suite, and so is the list of what infrs depends on."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# `setattr(module, "_NAME", ...)`, `patch("package.module._name")`, `thing._name = ...`, also in the text of a program.
SETS_PRIVATE = re.compile(
    r"""\b(?:setattr|setitem|delattr|patch|patch\.object)\((?:[^"'()]+,)?\s*["'](?:[\w.]+\.)?_(?!_)\w+"""
    r"""|(?<!\bself)(?<!\bcls)\._(?!_)\w+(?:, [^=\n]+)? = """
)
GROUPS = {"serving": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


def normal(requirement: str) -> str:
    """`Optimum_ONNX[x]>=1; marker` is optimum-onnx."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["ruff", "format", "--check"], ["ruff", "check"], ["mypy"]], ids=" ".join)
def test_clean(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_dependency_says_what_it_is_for() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    listed = [re.findall(r"^\| ([a-z0-9-]+) \| +<?[\d,]+ \|", section, flags=re.MULTILINE) for section in sections]
    assert listed == [[normal(requirement) for requirement in group] for group in GROUPS.values()]


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin)] == []
    wanted = {normal(requirement) for group in GROUPS.values() for requirement in group}
    assert wanted - {normal(pin) for pin in pins} == set()


def test_no_file_swallows_the_project() -> None:
    files = [path for folder in ("infrs", "export", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_two_tests_share_a_name() -> None:
    """pytest, which imports them without packages, could not collect both."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in path.parts)
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    "text",
    [
        'monkeypatch.setattr(planner, "_MIN_KEPT", 4)',
        'patch.setattr(\n    "infrs.engine.service._HEARTBEAT", 0.02\n)',
        "mock.patch.object(engine.scheduler, '_plan', plan)",
        'mock.patch("infrs.bundle.files._lease")',
        "engine._sample = sample",
        "self.engine._sample, other = sample, 1",
    ],
)
def test_the_rule_of_private_names_finds_each_way_to_set_one(text: str) -> None:
    assert SETS_PRIVATE.search(text)


def test_no_test_sets_a_private_name() -> None:
    """Pass the value or function as an argument instead, so that a test says what the code promises."""
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if "node_modules" not in path.parts and path != Path(__file__)
        for match in SETS_PRIVATE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
