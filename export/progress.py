"""Progress on stderr: a line for each step and a bar for each long step."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

_STAGES = {
    "fetch": "fetching (MB)",
    "gguf": "reading the weights",
    "calibration": "measuring the inputs",
    "trace": "tracing the graph",
    "weights": "writing the weights",
}


class Progress:
    """Report progress to a terminal; nothing if not `shown`."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns, console=Console(stderr=True, quiet=not shown), disable=not shown)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            self._bars.stop()

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)

    def stage(self, name: str, done: int, total: int) -> None:
        """Set the progress of the stage `name` to `done` of `total` parts."""
        if not self._tasks:
            self._bars.start()  # not earlier: without a bar it would leave an empty line
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(_STAGES.get(name, name), total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)
