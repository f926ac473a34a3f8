"""The grammar of tool calls, as a Lark text that llguidance reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infrs.text.schemas.guided import guided
from infrs.text.tools.parser import FENCE, Syntax

MAX_CALLS = 16  # that a grammar lets an answer make

# Keywords by which parameters may have some without listing them.
_DESCRIBING = {"additionalProperties", "patternProperties", "required", "minProperties", "allOf", "anyOf", "oneOf"}
_DESCRIBING |= {"$ref", "if", "dependentSchemas"}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    parameters: JSON schema of its arguments, an object. strict: whether they must follow all of it, or only as far as
    its keywords are supported.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False


# The Lark term of a text: a quoted string, or the token where the tokenizer has the text as a control token.
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
    """Answers that call the tools, once or, if `many`, up to MAX_CALLS times; unless `required`, also plain text.

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
    """The start: text in which the parser would see no call, or calls, after such text where a marker tells them."""
    opening = r"(json|tool_code|tool_call)?\s*\[?\s*\{"  # a fence is one of calls only if this follows
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
    """The schema of a call's arguments; those of a function that describes no parameters are `{}`."""
    parameters = {"type": "object", **tool.parameters}
    if not parameters.get("properties") and not any(parameters.get(keyword) for keyword in _DESCRIBING):
        parameters.setdefault("additionalProperties", False)
    return guided(parameters, lenient=not tool.strict)


def _terms(text: Sequence[str], literal: Literal) -> str:
    return " ".join(map(literal, text))
