"""`/openapi.json`: describe the routes and their request bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_PARAMETER = re.compile(r"<(\w+)(?::\w+)?>")
_REF = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
ERROR, ANTHROPIC_ERROR, OLLAMA_ERROR = "Error", "AnthropicError", "OllamaError"
_DETAILS = {
    "type": "object",
    "required": ["error_code", "param"],
    "properties": {"error_code": {"type": ["string", "null"]}, "param": {"type": ["string", "null"]}},
}
_ANTHROPIC_ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message", "details"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}, "details": _DETAILS},
        },
    },
}
_OLLAMA_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_ERRORS = {ERROR: _ERROR, ANTHROPIC_ERROR: _ANTHROPIC_ERROR, OLLAMA_ERROR: _OLLAMA_ERROR}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. bodies: alternative models of its request body. produces: media types.

    error: the schema of its errors. is_upload: the body is a form, which the handler reads as it arrives.
    """

    method: str
    path: str
    summary: str
    bodies: tuple[type[BaseModel], ...] = ()
    produces: tuple[str, ...] = ("application/json",)
    error: str = ERROR
    is_upload: bool = False


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document. A field marked `x-refused` accepts only the values of its `enum`."""
    models = {model for operation in operations for model in operation.bodies}
    by_name = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in by_name], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "infrs", "version": version, "license": {"name": "MIT"}},
        "paths": paths,
        "security": [{"bearerAuth": []}, {}],  # the empty one: a server without keys
        "components": {
            "schemas": {**_ERRORS, **definitions.get("$defs", {})},
            "securitySchemes": {"bearerAuth": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            "200": {"description": "The answer.", "content": {media: {} for media in operation.produces}},
            "default": {
                "description": "An error.",
                "content": {"application/json": {"schema": {"$ref": _REF.format(model=operation.error)}}},
            },
        },
    }
    names = _PARAMETER.findall(operation.path)
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if operation.bodies:
        refs = [{"$ref": _REF.format(model=model.__name__)} for model in operation.bodies]
        schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
        media = "multipart/form-data" if operation.is_upload else "application/json"
        described["requestBody"] = {"required": True, "content": {media: {"schema": schema}}}
    return described
