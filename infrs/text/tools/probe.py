"""Render calls with a chat template, to see in which notation the model writes them."""

from __future__ import annotations

from dataclasses import dataclass

from infrs.errors import RequestError
from infrs.text.chat.conversation import declared
from infrs.text.chat.template import ChatFormat
from infrs.text.chat.written import written_calls
from infrs.text.tools.call_grammar import Tool

_SCHEMA = {"type": "object", "properties": {"probe_key": {"type": "string"}}, "required": ["probe_key"]}
PROBE_TOOL = Tool("probe_tool", "d", _SCHEMA)
PROBE_ARGUMENTS = {"probe_key": "probe_value"}


@dataclass(frozen=True, slots=True)
class RenderedCalls:
    """Calls of PROBE_TOOL with PROBE_ARGUMENTS as a chat template writes them, without the turn around them.

    one, two: an answer with as many calls; empty if the template does not write them. prompt: a prompt with the tool;
    empty if the template refuses it.
    """

    one: str
    two: str
    prompt: str


def rendered_calls(template: ChatFormat) -> RenderedCalls:
    """Return calls as a chat template writes them."""
    call = (PROBE_TOOL.name, PROBE_ARGUMENTS)
    one, two = (written_calls(template, [call] * num_calls) for num_calls in (1, 2))
    return RenderedCalls(one, two if two.count(PROBE_TOOL.name) == 2 else "", _prompt(template))


def _prompt(template: ChatFormat) -> str:
    try:
        return template.render([{"role": "user", "content": "u"}], variables={"tools": declared([PROBE_TOOL])})
    except RequestError:
        return ""
