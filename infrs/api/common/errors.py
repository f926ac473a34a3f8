"""Errors in OpenAI's shape: the status, `type` and body of an InfrsError."""

from __future__ import annotations

import orjson

from infrs.errors import (
    DrainingError,
    InfrsError,
    ModelLoadError,
    ModelLoadingError,
    ModelNotFoundError,
    ModelUnloadedError,
    OutOfMemoryError,
    QueueFullError,
    RequestError,
    RequestTimeoutError,
)

RETRY_AFTER_SECONDS = 1
TOO_MANY_CONNECTIONS = "too many connections are open; try again in a moment"

_STATUS: dict[type[InfrsError], int] = {
    RequestError: 400,
    ModelNotFoundError: 404,
    QueueFullError: 429,
    DrainingError: 503,
    ModelLoadingError: 503,
    ModelLoadError: 503,
    ModelUnloadedError: 503,
}


class AuthenticationError(InfrsError):
    """The request carries no API key of this server's."""

    code = "invalid_api_key"


class MissingKeyError(AuthenticationError):
    """The request carries no API key at all."""

    code = "missing_api_key"


class HostNotAllowedError(InfrsError):
    """The request calls the server by a name that is not its own."""

    code = "host_not_allowed"


class OriginNotAllowedError(InfrsError):
    """The request comes from a web page of another site."""

    code = "origin_not_allowed"


class TooManyConnectionsError(InfrsError):
    """The request came on a connection of the reserve, which is for others."""

    code = "too_many_connections"


class EngineStalledError(InfrsError):
    """The engine has work and makes no step."""

    code = "engine_stalled"


class TextStalledError(InfrsError):
    """A thread works on one request's text and does not come to an end."""

    code = "text_stalled"


class ResponseNotFoundError(InfrsError):
    """No stored response of this client has the id."""

    code = "response_not_found"


class UpgradeRequiredError(InfrsError):
    """The path takes a WebSocket handshake, and the request is none."""

    code = "websocket_required"


class FilesOffError(InfrsError):
    """The server stores no files."""

    code = "files_disabled"


class FileMissingError(InfrsError):
    """No stored file of this client has the id."""

    code = "file_not_found"


class FileTooLargeError(InfrsError):
    """A file is larger than `server.max_file_mb`."""

    code = "file_too_large"


class StorageFullError(InfrsError):
    """The stored files take as much room as they may."""

    code = "storage_full"


class BatchMissingError(InfrsError):
    """No batch of this client has the id."""

    code = "batch_not_found"


class TooManyBatchesError(InfrsError):
    """The client has as many batches in progress as it may have."""

    code = "too_many_batches"


_STATUS |= {AuthenticationError: 401, HostNotAllowedError: 403, OriginNotAllowedError: 403}
_STATUS |= {ResponseNotFoundError: 404, UpgradeRequiredError: 426}
_STATUS |= {EngineStalledError: 503, TextStalledError: 503, OutOfMemoryError: 503, RequestTimeoutError: 503}
_STATUS |= {FilesOffError: 404, FileMissingError: 404, BatchMissingError: 404}
_STATUS |= {FileTooLargeError: 413, StorageFullError: 413, TooManyBatchesError: 429}
_STATUS[TooManyConnectionsError] = 503


def status_of(error: InfrsError) -> int:
    """Return the HTTP status of an error; 500 for a fault of the server."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def error_type(status: int) -> str:
    """Return OpenAI's `type` for a status."""
    match status:
        case 401:
            return "authentication_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "invalid_request_error" if status < 500 else "server_error"


def error_body(message: str, *, status: int, code: str | None, param: str | None = None) -> bytes:
    """Return `{"error": {message, type, param, code}}`."""
    return orjson.dumps({"error": {"message": message, "type": error_type(status), "param": param, "code": code}})


def message_of(error: InfrsError) -> str:
    """Return the message for the client. Only the log has the details of a fault of the server."""
    inside = status_of(error) == 500
    return "the server failed while it worked on this request; see its log" if inside else error.message


def body_of(error: InfrsError) -> bytes:
    """Return the body of an error."""
    return error_body(message_of(error), status=status_of(error), code=error.code, param=error.param)
