"""Errors in Ollama's shape: `{"error": "..."}`."""

from __future__ import annotations

import orjson

from infrs.api.common import errors as common_errors
from infrs.errors import InfrsError, ModelNotFoundError, QueueFullError

PREFIX = "/api/"  # of the paths with errors of this shape


def ollama_status(status: int) -> int:
    """Return Ollama's status for the status of an OpenAI route: a full queue is 503."""
    return 503 if status == 429 else status


def message_of(error: InfrsError) -> str:
    """Return the message for the client. Clients recognise a full queue by Ollama's words."""
    message = common_errors.message_of(error)
    return f"server busy, please try again: {message}" if isinstance(error, QueueFullError) else message


def not_found(name: str, served: str) -> ModelNotFoundError:
    """Return the error of an unknown model. Clients recognise it by Ollama's words."""
    return ModelNotFoundError(
        f"model '{ascii(name)[1:-1][:100]}' not found; this server serves {served}", param="model"
    )


def error_body(message: str) -> bytes:
    """Return the body of an error. A stream ends with one as its last line."""
    return orjson.dumps({"error": message})
