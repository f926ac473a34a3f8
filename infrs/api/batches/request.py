"""The request bodies of `POST /v1/files` and `POST /v1/batches`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from infrs.api.batches.endpoints import Endpoint
from infrs.api.common.fields import Body, Metadata, parse_body, refuse
from infrs.errors import RequestError

_HOURS = {"h": 1, "d": 24}
_MAX_HOURS = 7 * 24


def window_seconds(window: str) -> int:
    """Return the duration of a completion window such as `24h` or `7d`."""
    return 3600 * int(window[:-1]) * _HOURS[window[-1]]


def _check_window(window: str) -> str:
    if not 3600 <= window_seconds(window) <= 3600 * _MAX_HOURS:
        refuse("completion_window", "expected 1h to 168h, or 1d to 7d")
    return window


class ExpiresAfter(Body):
    """When a file is deleted. OpenAI's bounds: an hour to 30 days."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=3600, le=2592000)]


class FileUpload(Body):
    """The parts of an upload. file: in Python, the name that the client gave."""

    file: Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})]
    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None


class BatchCreateRequest(Body):
    """A batch to begin."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=128)]
    endpoint: Endpoint
    completion_window: Annotated[str, Field(pattern=r"^[0-9]{1,3}[hd]$"), AfterValidator(_check_window)]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


def parse_upload(filename: str, fields: Mapping[str, str]) -> FileUpload:
    """Validate the parts of an upload. fields: `purpose` and, in brackets, the parts of `expires_after`.

    Raises RequestError that names the field.
    """
    payload: dict[str, Any] = {"file": filename}
    for name, value in fields.items():
        outer, bracket, inner = name.partition("[")
        if not bracket:
            payload[name] = value
            continue
        parts = payload.setdefault(outer, {})
        if not isinstance(parts, dict) or not inner.endswith("]"):
            raise RequestError(f"{name!a} is no field of an upload; send expires_after[seconds]", param=outer)
        parts[inner[:-1]] = int(value) if value.isascii() and value.isdigit() else value
    return parse_body(FileUpload, payload)
