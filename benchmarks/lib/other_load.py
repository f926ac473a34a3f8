"""What else a machine did while something was measured: Linux's count of all CPU time, less one's own."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")  # a second


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: by the clock, that all cores have worked (or other guests of the host in their place), and for us."""

    clock: float
    machine: float
    ours: float

    def others_since(self, before: Times) -> float:
        """How many cores others had, on average."""
        spent = (self.machine - before.machine) - (self.ours - before.ours)
        return max(0.0, spent) / (self.clock - before.clock)


def now() -> Times:
    """The times so far; ours are those of this process, of those it started, and so on down."""
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    parents, spent = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(entry.parent.name)] = int(fields[1])
        spent[int(entry.parent.name)] = sum(map(int, fields[11:15]))  # its own and that of children it has seen end
    family, size = {os.getpid()}, 0
    while len(family) > size:
        size = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    ours = sum(spent[member] for member in family)
    return Times(time.monotonic(), (user + nice + system + irq + soft + steal) / _TICKS, ours / _TICKS)
