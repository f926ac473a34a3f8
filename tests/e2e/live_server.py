"""Real servers: `infrs-serve` as a process, on a free port, over the demo model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from openai import OpenAI

SCRIPTS = Path(sys.executable).parent
START_SECONDS = 120


@dataclass
class Server:
    """A running server and what it has printed."""

    process: subprocess.Popen[str]
    url: str = ""
    lines: list[str] = field(default_factory=list)
    announced: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if not self.url and (found := re.search(r"serves \S+ at (http://\S+):", line)):
                self.url = found.group(1)
                self.announced.set()
        self.announced.set()

    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=120)


@contextmanager
def serving(
    *arguments: str | Path,
    environ: dict[str, str] | None = None,
    command: Sequence[str | Path] = (SCRIPTS / "infrs-serve",),
    folder: Path | None = None,
    status: int = 0,
) -> Iterator[Server]:
    """Run `infrs-serve` in a folder until the block ends; it must then stop by itself on SIGTERM, with that status."""
    server = Server(
        subprocess.Popen(
            [*command, "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (environ or {}),
            cwd=folder,
        )
    )
    reader = threading.Thread(target=server.read, daemon=True)
    reader.start()
    try:
        assert server.announced.wait(START_SECONDS), server.lines
        assert server.url, server.lines
        yield server
        server.process.terminate()
        assert server.process.wait(timeout=40) == status, server.lines
    finally:
        server.process.kill()
        server.process.wait()
