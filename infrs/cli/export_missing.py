"""Find the bundle of a model, or export the model first, in another process so that torch's memory is freed."""

from __future__ import annotations

import importlib.util
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from infrs.bundle import local_models
from infrs.bundle.manifest import MANIFEST_FILE
from infrs.config.settings import ModelSettings
from infrs.errors import BundleNotFoundError, ConfigError
from infrs.extras import export_extras, install_command
from infrs.models.draft_bundle import draft_source

logger = logging.getLogger("infrs.cli.export_missing")


@dataclass(frozen=True, slots=True)
class Exporter:
    """The exporter: the Python code that runs it, and the modules that it needs."""

    code: str
    required: Sequence[str]


EXPORTER = Exporter(
    "from infrs_export.entry import main; main()", ("infrs_export", "torch", "transformers", "optimum", "onnx")
)


def find_or_export(model: ModelSettings, exporter: Exporter = EXPORTER) -> Path:
    """Return the cached bundle of a model, or export the model first if there is none.

    Raises BundleNotFoundError, which says what to run, if there is none and the export extra is not installed,
    SourceError if the model is a path without a model, ConfigError if `model.cache_dir` is not a directory or the
    path is that of a bundle. Exits with the exporter's code if the export fails.
    """
    if model.cache_dir.exists() and not model.cache_dir.is_dir():
        raise ConfigError(f"model.cache_dir: {model.cache_dir} is not a directory", param="model.cache_dir")
    path = local_models.local_path(model.model_id)
    if path is not None and (path / MANIFEST_FILE).is_file():
        raise ConfigError(f"{path} is an exported bundle; serve it with --bundle", param="model.model_id")
    try:
        return find_cached(model)
    except BundleNotFoundError as error:
        arguments = _arguments(model)
        if not all(map(importlib.util.find_spec, exporter.required)):
            command = shlex.join(["infrs-export", *arguments])
            install = install_command(export_extras([model.model_id]))
            raise BundleNotFoundError(f"{error}; run: {install} && {command}") from None
        logger.info("%s; exporting it", error)
    code = _run([sys.executable, "-c", exporter.code, "--for-server", *arguments])
    if code:
        sys.exit(code)
    return find_cached(model)


def find_cached(model: ModelSettings) -> Path:
    """Return the cached bundle of a model. Raises BundleNotFoundError, SourceError."""
    return local_models.find_cached(model.cache_dir, model.model_id, model.revision, model.dtype)


def export_draft(model: ModelSettings) -> None:
    """Export the draft model that a model names, unless it is cached. Raises and exits as `find_or_export` does."""
    source = draft_source(model)
    if isinstance(source, ModelSettings):
        find_or_export(source)


def _arguments(model: ModelSettings) -> list[str]:
    options = {"--revision": model.revision, "--dtype": model.dtype, "--output": str(model.cache_dir)}
    return [model.model_id, *(part for option in options.items() for part in option)]


def _run(command: list[str]) -> int:
    """Run to the end and return the exit code; SIGINT and SIGTERM end the child, then this process.

    Python handles signals in the main thread only. Called in another thread, this leaves them to the program.
    """
    environment = dict(os.environ)
    if "HUGGING_FACE_HUB_TOKEN" in environment:
        environment.setdefault("HF_TOKEN", environment["HUGGING_FACE_HUB_TOKEN"])
    running: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in running:
            process.terminate()

    handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, stop) for number in handled}
    try:
        with subprocess.Popen(command, env=environment) as process:
            running.append(process)
            if received:  # while it was being started
                process.terminate()
            code = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code
