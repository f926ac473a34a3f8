"""Errors in Anthropic's shape (https://docs.claude.com/en/api/errors)."""

from __future__ import annotations

import orjson

from infrs.api.common import errors as common_errors
from infrs.errors import ContextLengthError, InfrsError

PATHS = frozenset({"/v1/messages", "/v1/messages/count_tokens"})  # their errors have this shape

OVERLOADED = 529  # Anthropic's status in the place of 503
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    OVERLOADED: "overloaded_error",
}


def anthropic_status(status: int) -> int:
    """Return Anthropic's status for the status of an OpenAI route."""
    return OVERLOADED if status == 503 else status


def message_of(error: InfrsError) -> str:
    """Return the message for the client. Anthropic's clients read the numbers of tokens of a long prompt from it."""
    if isinstance(error, ContextLengthError) and error.num_tokens is not None:
        return f"prompt is too long: {error.num_tokens} tokens > {error.max_tokens} maximum"
    return common_errors.message_of(error)


def error_body(message: str, *, status: int, code: str | None, param: str | None = None) -> bytes:
    """Return `{"type": "error", "error": {type, message, details}}`. status: Anthropic's.

    details: `error_code` and `param`, which are `code` and `param` of an OpenAI error.
    """
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    error = {"type": kind, "message": message, "details": {"error_code": code, "param": param}}
    return orjson.dumps({"type": "error", "error": error})
