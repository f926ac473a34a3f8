"""Write the tables of docs/api.md from the request models: `python tests/api/api_table.py`."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from infrs.api.common.fields import EMPTY
from infrs.api.common.other_fields import Hints, OtherFields
from infrs.http.routes.table import ROUTES

ROOT = Path(__file__).parents[2]
API = ROOT / "docs" / "api.md"
BEGIN, END = "<!-- fields -->", "<!-- /fields -->"


_SHARED = (
    "Also taken by `POST /v1/chat/completions`, `/v1/completions`, `/v1/responses`, `/v1/messages`, `/v1/embeddings`,\n"
    "`/v1/rerank`, `/v1/score` and `/classify`: what clients of OpenAI, Anthropic, vLLM, SGLang, llama.cpp, Ollama,\n"
    "OpenRouter and LiteLLM send to every server."
)


def table(model: type[BaseModel]) -> str:
    """Return the table of a model's own fields: accepted values, and whether infrs honours or refuses the field."""
    schema = model.model_json_schema()
    lines = ["| field | takes | |", "| --- | --- | --- |"]
    for name, field in schema["properties"].items():
        if model is not OtherFields and _is_shared(model, _attribute(model, name)):
            continue
        refused = bool(field.get("x-refused"))
        takes = _values(field["enum"]) if refused else _takes(field, schema.get("$defs", {}))
        required = " (required)" if name in schema.get("required", ()) else ""
        is_hint = any(part.get("x-hint") for part in (field, *field.get("anyOf", ())))
        verdict = "neutral values only" if refused else "hint" if is_hint else "honoured"
        lines.append(f"| `{name}`{required} | {takes} | {verdict} |")
    return "\n".join(lines)


def _attribute(model: type[BaseModel], name: str) -> str:
    return next(attribute for attribute, field in model.model_fields.items() if name in (attribute, field.alias))


def _is_shared(model: type[BaseModel], name: str) -> bool:
    """Return whether a field is in the table of the shared fields."""
    return next(kind for kind in model.__mro__ if name in inspect.get_annotations(kind)) in (OtherFields, Hints)


def _values(values: list[Any]) -> str:
    if values == [None, *EMPTY]:
        return "empty"
    return ", ".join(f"`{json.dumps(value)}`" for value in values)


def _takes(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Describe a JSON schema in words."""
    if "$ref" in field:
        target = definitions[field["$ref"].rpartition("/")[2]]
        return "object: " + ", ".join(f"`{name}`" for name in target["properties"])
    alternatives = field.get("anyOf") or field.get("oneOf")
    if alternatives:
        kinds = [
            _takes(kind, definitions) for kind in alternatives if not (kind.get("type") == "null" or "x-unset" in kind)
        ]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field or "const" in field:
        return _values(field.get("enum") or [field["const"]])
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"array of {_takes(field['items'], definitions)}" + _bounds(field, "minItems", "maxItems")
    bounds = _bounds(field, "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxLength", "maxProperties")
    return kind + bounds


def _bounds(field: dict[str, Any], *names: str) -> str:
    words = {
        "minimum": "≥ {}", "maximum": "≤ {}", "exclusiveMinimum": "> {}", "exclusiveMaximum": "< {}",
        "minItems": "≥ {}", "maxItems": "≤ {} of them", "maxLength": "≤ {} characters", "maxProperties": "≤ {} keys",
    }  # fmt: skip
    bounds = [words[name].format(field[name]) for name in names if name in field]
    return f" ({', '.join(bounds)})" if bounds else ""


def render() -> str:
    """Return the generated part of docs/api.md."""
    routes = ["| method | path | |", "| --- | --- | --- |"]
    routes += [
        f"| {operation.method} | `{re.sub(r'<[^>]+>', '{id}', operation.path)}` | {operation.summary} |"
        for operation in (route.operation for route in ROUTES)
    ]
    parts = ["\n".join(routes)]
    shown: dict[type[BaseModel], str] = {}
    for operation in (route.operation for route in ROUTES):
        for model in operation.bodies:
            fields = f"The fields of `{shown[model]}`." if model in shown else table(model)
            parts.append(f"### `{operation.method} {operation.path}`: {model.__name__}\n\n{fields}")
            shown.setdefault(model, operation.path)
    parts.append(f"### Fields of other servers\n\n{_SHARED}\n\n{table(OtherFields)}")
    return "\n\n".join(parts)


def with_tables(text: str) -> str:
    """Return the text of docs/api.md with its generated part replaced."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{render()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    API.write_text(with_tables(API.read_text(encoding="utf-8")), encoding="utf-8")
