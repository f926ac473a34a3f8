"""The entry point of `infrs-export`, which imports only what every installation has."""

from __future__ import annotations

import signal
import sys

from infrs.cli.process_1 import leave_process_1


def main() -> None:
    """Run `infrs-export`. Exit code 4 if the `export` extra, or a part of it, is not installed."""
    leave_process_1()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt during an import shows no traceback
    from infrs.cli.command import run  # noqa: PLC0415
    from infrs.errors import ExportError  # noqa: PLC0415
    from infrs.extras import export_extras, install_command  # noqa: PLC0415

    try:
        from .cli import main as command  # noqa: PLC0415

        signal.signal(signal.SIGINT, signal.default_int_handler)
        run(command, "infrs-export")
    except ModuleNotFoundError as error:
        install = install_command(export_extras(sys.argv[1:]))
        print(f"infrs-export: {error.name} is not installed, which exporting needs; run: {install}", file=sys.stderr)
        sys.exit(ExportError.exit_code)
