"""Errors in Anthropic's shape (https://docs.claude.com/en/api/errors)."""

from __future__ import annotations

import orjson

PATHS = frozenset({"/v1/messages", "/v1/messages/count_tokens"})  # that speak as Anthropic's do

OVERLOADED = 529  # what Anthropic answers where others answer 503
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    OVERLOADED: "overloaded_error",
}


def anthropic_status(status: int) -> int:
    """The status that Anthropic's clients expect where OpenAI's get `status`."""
    return OVERLOADED if status == 503 else status


def error_body(message: str, *, status: int, code: str | None, param: str | None = None) -> bytes:
    """`{"type": "error", "error": {type, message, details}}`. status: Anthropic's.

    details: `error_code` and `param`, the code and the field's name that OpenAI's routes tell.
    """
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    error = {"type": kind, "message": message, "details": {"error_code": code, "param": param}}
    return orjson.dumps({"type": "error", "error": error})
