"""The grammar of tool calls, in Lark for llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infrs.text.schemas.guided import guided
from infrs.text.tools.parser import FENCE, Syntax

MAX_CALLS = 16  # the most calls that a grammar allows in an answer

# Keywords that allow arguments with unlisted properties.
_DESCRIBING = {"additionalProperties", "patternProperties", "required", "minProperties", "allOf", "anyOf", "oneOf"}
_DESCRIBING |= {"$ref", "if", "dependentSchemas"}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    parameters: JSON schema of its arguments, an object. strict: whether arguments must match all of it, or only its
    supported keywords.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False


# Return the Lark term of a text: a quoted string, or the token if the text is a control token.
Literal = Callable[[str], str]


def calls_grammar(
    syntax: Syntax,
    tools: Sequence[Tool],
    literal: Literal,
    *,
    many: bool,
    required: bool,
    before: Sequence[str],
    between: Sequence[str],
    after: Sequence[str],
    key: str,
) -> str:
    """Return the grammar of answers with one call or, if `many`, up to MAX_CALLS; unless `required`, also plain text.

    before, between, after, key: see ToolFormat. The first before calls is a marker of the syntax, unless bare.
    """
    more = f" (separator call){{0,{MAX_CALLS - 1}}}" if many else ""
    lines = ["start: calls"] if required else _or_text(syntax, literal)
    if not required and not syntax.bare:
        before = before[1:]
    lines += [
        f"calls: {_terms(before, literal)} call{more} {_terms(after, literal)}",
        "call: " + " | ".join(f"call_{index}" for index in range(len(tools))),
    ]
    lines += [
        f"call_{index}: {literal(_open(tool, key))} %json {json.dumps(_arguments(tool))} {literal('}')}"
        for index, tool in enumerate(tools)
    ]
    return "\n".join(lines + [f"separator: {_terms(between, literal)}"] * many) + "\n"


def _or_text(syntax: Syntax, literal: Literal) -> list[str]:
    """Return the start rules: text without calls for the parser, or calls; with a marker, also text before calls."""
    opening = r"(json|tool_code|tool_call)?\s*\[?\s*\{"  # a fence starts calls only before this
    markers = [re.escape(marker) + (opening if marker == FENCE else "") for marker in syntax.starts]
    text = rf"TEXT: /(?s:.*)/ & ~/(?s:.*)({'|'.join(markers)})(?s:.*)/"
    if syntax.bare:
        return ["start: TEXT | calls", text + r" & ~/\s*[{\[](?s:.*)/"]
    marker = literal(syntax.starts[0])
    if marker.startswith("<"):
        return ["start: TEXT | TEXT? marked", text, f"marked: {marker} calls"]
    return ["start: TEXT | marked", text, "marked: lead calls", f"lead[lazy]: /(?s:.*)/ {marker}"]


def _open(tool: Tool, key: str) -> str:
    return f'{{"name": {json.dumps(tool.name)}, "{key}": '


def _arguments(tool: Tool) -> dict[str, Any]:
    """Return the schema of a call's arguments; `{}` for a function without parameters."""
    parameters = {"type": "object", **tool.parameters}
    if not parameters.get("properties") and not any(parameters.get(keyword) for keyword in _DESCRIBING):
        parameters.setdefault("additionalProperties", False)
    return guided(parameters, lenient=not tool.strict)


def _terms(text: Sequence[str], literal: Literal) -> str:
    return " ".join(map(literal, text))
