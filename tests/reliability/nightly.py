"""`make nightly`: runs the full form of each test that has one and puts what they came to into docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BUILD = ROOT / "build"  # for the reports of pytest
BETWEEN = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL)
# Work is stolen rather than grouped: a worker that runs a long test keeps no other waiting.
PARTS: Mapping[str, Sequence[str]] = {
    "parallel": ("-m", "not serial", "--numprocesses", "2", "--dist", "worksteal"),
    "serial": ("-m", "serial"),
}
ENDED = (0, 1)  # of pytest's exit statuses: every test has run, and passed or not


@dataclass(frozen=True)
class Row:
    """What a row of the reliability matrix came to."""

    name: str
    figure: str
    passed: bool

    def __str__(self) -> str:
        """A line of the table."""
        result = (self.figure or ("passed" if self.passed else "no figure")).replace("|", r"\|")
        return f"| {self.name} | {result if self.passed else f'**failed**: {result}'} |"


@dataclass(frozen=True)
class Run:
    """A run of all parts. `broken` names those that ended before all their tests had run."""

    commit: str
    machine: str
    date: str
    seconds: float
    rows: Sequence[Row]
    broken: Sequence[str]

    @property
    def passed(self) -> bool:
        return not self.broken and all(row.passed for row in self.rows)

    def text(self) -> str:
        """What stands between the marks of the page."""
        failed = [row.name for row in self.rows if not row.passed]
        count = f"{len(self.rows) - len(failed)} of {len(self.rows)} rows passed in {self.seconds / 60:.0f} minutes"
        lines = ["", f"`make nightly`, {self.date}, commit {self.commit}, on {self.machine}: {count}."]
        if failed:
            lines += ["", f"**{len(failed)} failed**, and what they promise is not shown: {'; '.join(failed)}."]
        if self.broken:
            lines += ["", f"**The run is not whole**: its {' and '.join(self.broken)} part broke off."]
        return "\n".join([*lines, "", "| row | it came to |", "| --- | --- |", *map(str, self.rows), "", ""])


def machine() -> str:
    """The processor, the cores and the memory of this machine, and what runs on it."""
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    name = model[1] if model else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def commit() -> str:
    """The commit that is checked out, with `+` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def read_rows(report: Path) -> list[Row]:
    """The rows of a report of pytest's (JUnit XML); a test whose teardown failed too is in it twice."""
    rows: dict[str, Row] = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 (our own file)
        told = {entry.get("name"): entry.get("value", "") for entry in case.iter("property")}
        name = told.get("row") or case.get("name", "")  # a worker that died tells no row
        failed = case.find("failure") is not None or case.find("error") is not None
        known = rows.get(name, Row(name, "", passed=True))
        rows[name] = Row(name, told.get("figure", known.figure), known.passed and not failed)
    return list(rows.values())


def run(build: Path, options: Sequence[str] = ()) -> Run:
    """Run the parts one after the other, all of them whatever comes of the first."""
    at, started = commit(), time.monotonic()
    rows: list[Row] = []
    broken = []
    for part, chosen in PARTS.items():
        report = build / f"nightly-{part}.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "--nightly", "--verbose", f"--junit-xml={report}"]
        status = subprocess.run([*command, *chosen, *options], cwd=ROOT, check=False).returncode
        broken += [part] if status not in ENDED else []
        rows += read_rows(report) if report.exists() else []
    rows.sort(key=lambda row: [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", row.name)])
    return Run(at, machine(), datetime.now(UTC).date().isoformat(), time.monotonic() - started, rows, broken)


def main() -> None:
    """Run all and rewrite the page."""
    BUILD.mkdir(exist_ok=True)
    whole = run(BUILD)
    filled, count = BETWEEN.subn(lambda _: whole.text(), PAGE.read_text())
    assert count == 1, f"{PAGE} has lost its marks"
    PAGE.write_text(filled)
    sys.exit(not whole.passed)


if __name__ == "__main__":
    main()
