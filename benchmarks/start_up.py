"""Where the time until a server is ready goes, and what saving prepacked weights could spare.

python benchmarks/start_up.py BUNDLE [--rounds 5]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import onnxruntime
import turns

from infrs.bundle.manifest import read_manifest, verify_bundle
from infrs.engine.runners.session import create_session
from infrs.text.tokenizer import Tokenizer


def imports() -> None:
    """What `infrs-serve` imports, in a process of its own."""
    subprocess.run([sys.executable, "-c", "import infrs.http.app, infrs.models.load, infrs.cli.serve"], check=True)


def not_prepacked(path: Path) -> None:
    """A session over the mapped weights as they are, with ONNX Runtime's kernels: the least that opening can take."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=5, show_default=True)
def main(bundle: Path, rounds: int) -> None:
    """Print milliseconds of each part."""
    manifest = read_manifest(bundle)
    path = bundle / manifest.graph_file
    parts: dict[str, Callable[[], object]] = {
        "imports": imports,
        "digests of the bundle's files": lambda: verify_bundle(bundle),
        "tokenizer": lambda: Tokenizer.load(bundle),
        "session, infrs's kernels, weights packed": lambda: create_session(path, 0),
        "session, ONNX Runtime's kernels, weights packed": lambda: create_session(path, 0, kernels="onnxruntime"),
        "session, ONNX Runtime's kernels, nothing packed": lambda: not_prepacked(path),
    }
    for line in turns.in_milliseconds(turns.timed(parts, rounds)):
        click.echo(line)


if __name__ == "__main__":
    main()
