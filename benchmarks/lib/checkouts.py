"""Serve a bundle with the code of a checkout, to compare two versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@contextmanager
def serving(checkout: Path, bundle: Path, keys: str = "") -> Iterator[tuple[str, int]]:
    """Start the server of a checkout on a free port, with API keys. Yield its URL and its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infrs", "--bundle", bundle.resolve(), "--port", "0", "--log-level", "error"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout.resolve()), "PYTHONUNBUFFERED": "1", "INFRS_API_KEYS": keys},
    )
    assert process.stdout is not None
    try:
        found = re.search(r" at (http://\S+):", process.stdout.readline())
        if found is None:
            raise click.ClickException(f"the server of {checkout} did not start")
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait()
