"""The program's way in, which imports only what every installation has."""

from __future__ import annotations

import sys

from infrs.command import run
from infrs.errors import ExportError


def main() -> None:
    """Run `infrs-export`. Exit code 4 where the `export` extra, whole or in part, is not installed."""
    try:
        from .cli import main as command  # noqa: PLC0415

        run(command, "infrs-export")
    except ModuleNotFoundError as error:
        print(
            f"infrs-export: {error.name} is not installed, which exporting needs; run: pip install 'infrs[export]'",
            file=sys.stderr,
        )
        sys.exit(ExportError.exit_code)
