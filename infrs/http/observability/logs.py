"""Log formats: one line per event, as text or JSON, without control bytes."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any

from infrs.config.settings import ServerSettings

_UNSAFE = re.compile(r"[^\x20-\x7e]")
_UNSAFE_IN_LINES = re.compile(r"[^\x20-\x7e\n]")


class TextFormatter(logging.Formatter):
    """Formats a record as one line of text, with a traceback on further lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the line of a record, without its traceback."""
        return _UNSAFE.sub(_escape, super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401  # logging's name and types
        """Return a traceback as lines."""
        return _UNSAFE_IN_LINES.sub(_escape, super().formatException(ei))


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time (UTC), level, logger, message, its `fields` and its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)  # ASCII, control bytes escaped


def to_stderr(settings: ServerSettings) -> None:
    """Log to stderr with `server.log_level` and `server.log_format`."""
    stream = logging.StreamHandler()
    stream.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[stream], force=True)
    for name in ("sanic.root", "sanic.server"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _escape(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]
