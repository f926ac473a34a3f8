"""Fixtures of all tests: the demo model's bundles, exported once per run, and the two forms of a test.

A test marked `nightly` has a quick form, which `make test` runs, and a full form, which `--nightly` runs; the fixture
`full` says which. Its mark names its row in the table of docs/reliability.md. tests/reliability/nightly.py fills the
table from pytest's report (`--junit-xml`), which holds what the tests report through the fixture `figure`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from infrs.bundle.manifest import Dtype, find_bundle
from infrs.machine.memory import return_free_memory

DEMO_MODEL = "demo/SmolLM2-135M-Instruct"
SCRIPTS = Path(sys.executable).parent
NIGHTLY_SECONDS = 1800  # limit of one test in its full form; on a quiet machine none needs a third of it
FULL_EXAMPLES = 10_000  # of each property in its full form

# Tests start hundreds of processes. Without files of bytecode, as containers often want it, each would compile infrs.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The phase `explain` traces each example in Python 3.11, which takes several times as long.
PHASES = set(hypothesis.Phase) - {hypothesis.Phase.explain}
hypothesis.settings.register_profile("quick", deadline=None, phases=PHASES)
hypothesis.settings.register_profile("nightly", deadline=None, phases=PHASES, max_examples=FULL_EXAMPLES)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="run the tests marked nightly, in their full form")


def pytest_configure(config: pytest.Config) -> None:
    nightly = config.getoption("--nightly")
    hypothesis.settings.load_profile("nightly" if nightly else "quick")
    if nightly and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(FailuresImmediately(config))


class FailuresImmediately:
    """Print a failure when it happens. pytest prints it at the end, an hour later, or never if it is stopped."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            terminal = self.config.pluginmanager.get_plugin("terminalreporter")
            assert terminal is not None
            terminal.write_line(f"\n{report.nodeid}\n{report.longreprtext}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--nightly"):
        return
    marked = [item for item in items if item.get_closest_marker("nightly")]
    config.hook.pytest_deselected(items=[item for item in items if item not in marked])
    items[:] = marked
    for item in marked:
        item.add_marker(pytest.mark.timeout(NIGHTLY_SECONDS))
        item.user_properties.append(("row", table_row(item)))
        if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):  # a later figure of the test replaces it
            item.user_properties.append(("figure", f"{FULL_EXAMPLES:,} inputs, 0 failures"))


def table_row(item: pytest.Item) -> str:
    """Return the row in docs/reliability.md of a test marked `nightly`, with its parameter."""
    marker = item.get_closest_marker("nightly")
    assert marker is not None
    [row] = marker.args
    return f"{row}, {item.callspec.id}" if isinstance(item, pytest.Function) and hasattr(item, "callspec") else row


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Return whether the full form of a test runs."""
    return bool(pytestconfig.getoption("--nightly"))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that reports the result for the test's row in docs/reliability.md."""
    return lambda result: request.node.user_properties.append(("figure", result))


@pytest.fixture(scope="module", autouse=True)
def no_free_memory() -> Iterator[None]:
    """Give free memory back to the system after each file: more than 1 GB after the engines of the demo model."""
    yield
    return_free_memory()


@pytest.fixture(scope="session")
def run_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def demo_cache(run_root: Path) -> Callable[[Dtype], Path]:
    """Return a cache with the demo model in a dtype. The exporter's lock keeps workers from exporting it twice."""
    folder = run_root / "demo_cache"

    @cache
    def export(dtype: Dtype) -> Path:
        command = [SCRIPTS / "infrs-export", "--demo", "--dtype", dtype, "--output", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr
        return folder

    return export


@pytest.fixture(scope="session")
def demo_bundle(demo_cache: Callable[[Dtype], Path]) -> Callable[[Dtype], Path]:
    """Return the demo model's bundle in a dtype."""
    return lambda dtype: find_bundle(demo_cache(dtype), DEMO_MODEL, "main", dtype)
