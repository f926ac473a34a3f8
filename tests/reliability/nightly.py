"""`make nightly`: runs the full form of each test that has one and writes their figures to docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import click

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
    """The result of a row of the reliability table."""

    name: str
    figure: str
    passed: bool

    def __str__(self) -> str:
        """A line of the table."""
        result = (self.figure or ("passed" if self.passed else "no figure")).replace("|", r"\|")
        return f"| {self.name} | {result if self.passed else f'**failed**: {result}'} |"


@dataclass(frozen=True)
class Part:
    """The result of a part of the run, with its commit and day. `whole`: all of its tests have run."""

    name: str
    commit: str
    date: str
    seconds: float
    rows: Sequence[Row]
    whole: bool = True


@dataclass(frozen=True)
class Run:
    """All parts, on one machine; those that were not run again are as they were."""

    machine: str
    parts: Sequence[Part]

    @property
    def rows(self) -> list[Row]:
        """Those of all parts, sorted by their names, in which numbers count as numbers."""
        rows = [row for part in self.parts for row in part.rows]
        return sorted(rows, key=lambda row: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", row.name)])

    @property
    def passed(self) -> bool:
        return all(part.whole for part in self.parts) and all(row.passed for row in self.rows)

    def text(self) -> str:
        """Return the text between the marks of the page."""
        failed = [row.name for row in self.rows if not row.passed]
        broken = [part.name for part in self.parts if not part.whole]
        at = f"commit {self.parts[0].commit}"
        if len({part.commit for part in self.parts}) > 1:
            at = ", ".join(f"its {part.name} part at commit {part.commit}" for part in self.parts)
        minutes = sum(part.seconds for part in self.parts) / 60
        count = f"{len(self.rows) - len(failed)} of {len(self.rows)} rows passed in {minutes:.0f} minutes"
        day = min(part.date for part in self.parts)  # nothing here is older
        lines = ["", f"`make nightly`, {day}, {at}, on {self.machine}: {count}."]
        if failed:
            lines += ["", f"**{len(failed)} failed**: {'; '.join(failed)}."]
        if broken:
            lines += ["", f"**The run is incomplete**: its {' and '.join(broken)} part broke off."]
        return "\n".join([*lines, "", "| row | result |", "| --- | --- |", *map(str, self.rows), "", ""])


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


def today() -> str:
    """The day in UTC, as pytest's reports have it."""
    return datetime.now(UTC).date().isoformat()


def read_part(name: str, report: Path) -> Part:
    """Read the result of a part from pytest's report (JUnit XML); a test with a failed teardown is in it twice."""
    if not report.exists():
        return Part(name, commit(), today(), 0.0, [], whole=False)
    suite = ElementTree.parse(report).find("testsuite")  # noqa: S314 (our own file)
    assert suite is not None
    rows: dict[str, Row] = {}
    for case in suite.iter("testcase"):
        values = {entry.get("name"): entry.get("value", "") for entry in case.iter("property")}
        row = values.get("row") or case.get("name", "")  # a worker that died reports no row
        failed = case.find("failure") is not None or case.find("error") is not None
        known = rows.get(row, Row(row, "", passed=True))
        rows[row] = Row(row, values.get("figure", known.figure), known.passed and not failed)
    day = suite.attrib["timestamp"].partition("T")[0]
    return Part(name, suite.attrib["name"], day, float(suite.attrib["time"]), list(rows.values()))


def run_part(name: str, report: Path, options: Sequence[str]) -> Part:
    """Run a part. Its report is kept for a run of the others, unless it broke off."""
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "--nightly", "--verbose", f"--junit-xml={report}"]
    command += ["-o", f"junit_suite_name={commit()}", *PARTS[name], *options]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    part = read_part(name, report)
    if status in ENDED:
        return part
    report.unlink(missing_ok=True)
    return replace(part, whole=False)


def run(build: Path, parts: Iterable[str] = PARTS, options: Sequence[str] = ()) -> Run:
    """Run parts one after the other, whatever comes of the first, and read what the others came to when they ran."""
    reports = {name: build / f"nightly-{name}.xml" for name in PARTS}
    values = [run_part(name, at, options) if name in parts else read_part(name, at) for name, at in reports.items()]
    return Run(machine(), values)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
def main(parts: Sequence[str]) -> None:
    """Run all PARTS, or some of them again, and rewrite the page."""
    BUILD.mkdir(exist_ok=True)
    whole = run(BUILD, parts or PARTS)
    filled, count = BETWEEN.subn(lambda _: whole.text(), PAGE.read_text())
    assert count == 1, f"{PAGE} has lost its marks"
    PAGE.write_text(filled)
    sys.exit(not whole.passed)


if __name__ == "__main__":
    main()
