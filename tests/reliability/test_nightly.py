"""`make nightly` writes every row to docs/reliability.md, and marks runs that failed or broke off."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import nightly
import pytest

ROOT = Path(__file__).parents[2]
GOOD = """
import os
import pytest

@pytest.mark.nightly("row 2 both")
@pytest.mark.parametrize("kind", ["one", "other"])
def test_of_two_kinds(kind, full, figure):
    assert full
    assert "PYTEST_XDIST_WORKER" in os.environ
    figure(f"{kind}: 7 ms")

@pytest.mark.nightly("row 10 alone")
@pytest.mark.serial
def test_alone(figure):
    assert "PYTEST_XDIST_WORKER" not in os.environ
    figure("40 of 40")

def test_without_a_full_form():
    raise AssertionError
"""
FAILS = """
@pytest.mark.nightly("row 1 too slow")
def test_that_fails(figure):
    figure("90 ms")
    assert not "what was compared"

@pytest.mark.nightly("row 3 not reached")
def test_that_fails_before_its_figure(figure):
    raise AssertionError
"""
DIES = """
@pytest.mark.nightly("row 1 that dies")
def test_that_takes_its_worker_along():
    os._exit(1)
"""
BREAKS = """
@pytest.mark.nightly("row 2 that dies")
@pytest.mark.serial
def test_that_takes_pytest_along():
    os._exit(3)
"""
Runs = Callable[..., nightly.Run]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Both parts or some, of the tests in a text."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:  # of a run that this one is in
        monkeypatch.delenv(name)

    def of(source: str, parts: Iterable[str] = nightly.PARTS) -> nightly.Run:
        (tmp_path / "test_some.py").write_text(source)
        options = ("-c", str(ROOT / "pyproject.toml"), "-p", "conftest", "-p", "no:cacheprovider", str(tmp_path))
        return nightly.run(tmp_path, parts, options)

    return of


def test_a_run_that_passes_has_every_row() -> None:
    rows = [nightly.Row("row 1 ramp", "8/s", passed=True), nightly.Row("row 2 overload", "", passed=True)]
    whole = nightly.Run("two cores", [nightly.Part("parallel", "0abc", "2026-01-31", 3301.0, rows)])
    assert whole.passed
    assert "`make nightly`, 2026-01-31, commit 0abc, on two cores: 2 of 2 rows passed in 55 minutes.\n" in whole.text()
    assert "| row 1 ramp | 8/s |\n| row 2 overload | passed |\n" in whole.text()
    assert "**" not in whole.text()


@pytest.mark.slow
def test_a_run_with_failures_marks_their_rows(run: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    """The second part still runs. A dead worker leaves its test name. A failure's reason is printed immediately."""
    some = run(GOOD + FAILS + DIES)
    assert not some.passed
    assert 'assert not "what was compared"' in capfd.readouterr().out.partition("= FAILURES =")[0]
    text = some.text()
    assert "3 of 6 rows passed" in text
    names = re.search(r"\*\*3 failed\*\*: (.+)\.\n", text)
    assert names
    assert names[1] == "row 1 too slow; row 3 not reached; test_that_takes_its_worker_along"
    assert "| row 1 too slow | **failed**: 90 ms |" in text
    assert "| row 3 not reached | **failed**: no figure |" in text
    table = ["| row 2 both, one | one: 7 ms |", "| row 2 both, other | other: 7 ms |", "| row 10 alone | 40 of 40 |"]
    assert [line for line in text.splitlines() if re.match(r"\| row \d", line) and "failed" not in line] == table
    assert "incomplete" not in text


@pytest.mark.slow
def test_a_run_that_breaks_off_is_incomplete(run: Runs) -> None:
    broken = run(GOOD + BREAKS)
    assert not broken.passed
    assert "**The run is incomplete**: its serial part broke off." in broken.text()
    assert "| row 2 both, one | one: 7 ms |" in broken.text()


@pytest.mark.slow
def test_a_part_can_be_run_again(run: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other part keeps its figures, commit and day. A run that broke off stays incomplete."""
    monkeypatch.setattr(nightly, "commit", lambda: "0abc")
    assert not run(GOOD.replace("40 of 40", "39 of 40") + FAILS.replace("@", "@pytest.mark.serial\n@")).passed
    monkeypatch.setattr(nightly, "commit", lambda: "1def")
    parallel = tmp_path / "nightly-parallel.xml"
    parallel.write_text(re.sub(r'(timestamp=")[\d-]+', r"\g<1>2026-01-31", parallel.read_text()))
    mended = run(GOOD, ["serial"])
    assert mended.passed
    assert "`make nightly`, 2026-01-31, " in mended.text()
    assert ", its parallel part at commit 0abc, its serial part at commit 1def, on " in mended.text()
    assert "3 of 3 rows passed" in mended.text()
    assert "| row 10 alone | 40 of 40 |" in mended.text()
    assert not run(GOOD + BREAKS, ["serial"]).passed
    assert "its serial part broke off" in run(GOOD, ["parallel"]).text()


def test_the_page_has_one_place_for_figures() -> None:
    """This is found before the run, not after it."""
    assert len(nightly.BETWEEN.findall(nightly.PAGE.read_text())) == 1


def test_every_marked_test_names_its_row() -> None:
    """Once: two tests of one row would be one line of the page."""
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    marks = [mark for source in sources for mark in re.findall(r"mark\.nightly\b(.*)", source)]
    rows = [re.fullmatch(r'\("([^"|]+)"\)', mark) for mark in marks]
    assert len(rows) > 20
    assert all(rows), marks
    assert len({row[1] for row in rows if row}) == len(rows)
