"""The files of a bundle are checked in a thread: a slow file system delays no request and hides no stall."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from infrs.http.lifecycle.watchdog import FileCheck

CHANGED = Path("weights")


def model(check: Any) -> Any:
    return type("Model", (SimpleNamespace,), {"__hash__": object.__hash__})(disturbed_file=check)


def test_files_are_checked_in_a_thread() -> None:
    threads: list[str] = []

    def check() -> Path:
        threads.append(threading.current_thread().name)
        return CHANGED

    changed, unchanged = model(check), model(lambda: None)

    async def run() -> dict[Any, Path]:
        files = FileCheck()
        try:
            return {**await files.check([unchanged, changed])}
        finally:
            files.close()

    assert asyncio.run(run()) == {changed: CHANGED}
    assert threads == ["infrs-files_0"]


def test_one_check_runs_at_a_time_and_a_later_call_returns_its_result() -> None:
    gate, num_checks = threading.Event(), 0

    def check() -> Path:
        nonlocal num_checks
        num_checks += 1
        gate.wait(60)
        return CHANGED

    hanging = model(check)

    async def run() -> None:
        files = FileCheck(seconds=0.01)
        try:
            assert [await files.check([hanging]) for _ in range(3)] == [{}] * 3
            assert num_checks == 1
            gate.set()
            while not (found := await files.check([hanging])):
                pass
            assert found == {hanging: CHANGED}
            assert num_checks == 1
        finally:
            gate.set()
            files.close()

    asyncio.run(run())
