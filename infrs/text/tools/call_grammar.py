"""The grammar of tool calls, in Lark for llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infrs.text.schemas.guided import guided, guided_leniently, is_implemented
from infrs.text.tools.parser import FENCE, Syntax

MAX_CALLS = 16  # the most calls that a grammar allows in an answer

# Keywords that allow arguments with unlisted properties.
_DESCRIBING = {"additionalProperties", "patternProperties", "required", "minProperties", "allOf", "anyOf", "oneOf"}
_DESCRIBING |= {"$ref", "if", "dependentSchemas"}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    parameters: JSON schema of its arguments, an object. strict: whether arguments must match all of it, or only its
    supported keywords. whitespace: as in `infrs.text.constraint.Constraint`, for arguments in JSON.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False
    whitespace: str = ""

    def guided(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the operand of Lark's `%json` for the arguments, or for one of them."""
        return (guided if self.strict else guided_leniently)(schema, whitespace=self.whitespace)


# Return the Lark term of a text: a quoted string, or the token if the text is a control token.
Literal = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Lark:
    """A part of a format's text that varies, as a Lark term."""

    term: str


Text = tuple[str | Lark, ...]  # each marker that can be a control token is an item of its own


@dataclass(frozen=True, slots=True)
class Frame:
    """The text around calls. The first of `before` is a start marker of the syntax, unless calls can be bare."""

    before: Text = ()
    between: Text = ()
    after: Text = ()


def calls_grammar(
    syntax: Syntax, frame: Frame, calls: Sequence[str], literal: Literal, *, many: bool, required: bool
) -> str:
    """Return the grammar of answers with one call or, if `many`, up to MAX_CALLS; unless `required`, also plain text.

    calls: the right side of a Lark rule for each tool, such as `"<call>f(" %json {...} ")"`.
    """
    more = f" (separator call){{0,{MAX_CALLS - 1}}}" if many else ""
    lines = ["start: calls"] if required else _or_text(syntax, frame, literal)
    before = frame.before if required or syntax.bare else frame.before[1:]
    lines += [
        f"calls: {terms(before, literal)} call{more} {terms(frame.after, literal)}",
        "call: " + " | ".join(f"call_{index}" for index in range(len(calls))),
    ]
    lines += [f"call_{index}: {call}" for index, call in enumerate(calls)]
    return "\n".join(lines + [f"separator: {terms(frame.between, literal)}"] * many) + "\n"


def _or_text(syntax: Syntax, frame: Frame, literal: Literal) -> list[str]:
    """Return the start rules: text without calls for the parser, or calls; with a marker, also text before calls."""
    opening = r"(json|tool_code|tool_call)?\s*\[?\s*\{"  # a fence starts calls only before this
    markers = [_escaped(marker) + (opening if marker == FENCE else "") for marker in syntax.starts]
    text = rf"TEXT: /(?s:.*)/ & ~/(?s:.*)({'|'.join(markers)})(?s:.*)/" if markers else "TEXT: /(?s:.*)/"
    if syntax.bare:
        return ["start: TEXT | calls", text + rf" & ~/\s*[{re.escape(syntax.bare)}](?s:.*)/"]
    marker = terms(frame.before[:1], literal)
    if marker.startswith("<"):
        return ["start: TEXT | TEXT? marked", text, f"marked: {marker} calls"]
    return ["start: TEXT | marked", text, "marked: lead calls", f"lead[lazy]: /(?s:.*)/ {marker}"]


def _escaped(text: str) -> str:
    """Return the regex of a text, between slashes and in one line."""
    return re.escape(text).replace("\\\n", r"\n").replace("/", r"\/")


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """Return the schema of a call's arguments for Lark's `%json`; `{}` for a function without parameters."""
    return tool.guided(_parameters(tool))


def honours_schema(tool: Tool) -> bool:
    """Return whether the grammar of a tool that is not strict honours all keywords of its schema."""
    return is_implemented(_parameters(tool))


def _parameters(tool: Tool) -> dict[str, Any]:
    parameters = {"type": "object", **tool.parameters}
    if not parameters.get("properties") and not any(parameters.get(keyword) for keyword in _DESCRIBING):
        parameters.setdefault("additionalProperties", False)
    return parameters


def json_arguments(tool: Tool) -> str:
    """Return the Lark term of a call's arguments as JSON."""
    return f"%json {json.dumps(arguments_schema(tool))}"


def terms(text: Text, literal: Literal) -> str:
    """Return the Lark terms of a text."""
    return " ".join(part.term if isinstance(part, Lark) else literal(part) for part in text)
