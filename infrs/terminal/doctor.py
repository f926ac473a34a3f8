"""`infrs doctor`: check this machine and say what to do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from infrs.config.merge import load_settings
from infrs.terminal.checks import CHECKS, Finding, Level

_MARKS = {Level.GOOD: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file. [default: ./config.json]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def doctor(config: Path | None, as_json: bool) -> None:  # click passes it by name
    """Check the CPU, memory, kernels, cache, exporter, Hub and port.

    Exit code 1: there is a problem. Warnings do not count.
    """
    settings = load_settings(config=config)
    findings = []
    for check in CHECKS:
        finding = check(settings)
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    sys.exit(any(finding.level is Level.PROBLEM for finding in findings))


def _show(finding: Finding) -> None:
    mark, color = _MARKS[finding.level]
    click.echo(f"{click.style(mark, fg=color)} {finding.subject + ':':<10} {finding.seen}")
    if finding.advice:
        click.echo(f"  {'':<10} → {finding.advice}")
