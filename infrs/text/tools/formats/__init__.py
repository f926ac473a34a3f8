"""The formats of tool calls, and the choice of a model's."""

from __future__ import annotations

import json

from infrs.text.chat.template import ChatFormat, ChatTemplate
from infrs.text.tools.events import Arguments, CallStart, Event
from infrs.text.tools.formats import bare, marked
from infrs.text.tools.probe import PROBE_ARGUMENTS, PROBE_TOOL, rendered_call
from infrs.text.tools.tool_format import ToolFormat

# In the order of choice: formats with specific markers first.
FORMATS: dict[str, ToolFormat] = {
    "mistral": marked.MISTRAL,
    "hermes": marked.HERMES,
    "granite": marked.GRANITE,
    "phi": marked.PHI,
    "llama3": bare.LLAMA_3,
    "gemma": bare.GEMMA,
    "generic": bare.GENERIC,
}


def choose_format(template: ChatFormat | str, name: str = "auto") -> ToolFormat:
    """Return the format in which a chat template writes calls, or the named format.

    template: the format of conversations, or the source of a chat template. A template that renders no call has the
    first format with one of its signs. Raises KeyError for an unknown name.
    """
    if name != "auto":
        return FORMATS[name]
    if isinstance(template, str):
        template = ChatTemplate(template, {})
    call = rendered_call(template)
    read = (tool_format for tool_format in FORMATS.values() if reads(tool_format, call))
    signed = (each for each in FORMATS.values() if any(sign in template.source for sign in each.signs))
    return next(read, None) or next(signed)


def reads(tool_format: ToolFormat, call: str) -> bool:
    """Return whether a format's parser reads a text as the call of `rendered_call`, and nothing before it."""
    parser = tool_format.parser({PROBE_TOOL.name}, schemas={PROBE_TOOL.name: PROBE_TOOL.parameters})
    match [*parser.feed(call), *parser.flush()]:
        case [CallStart(PROBE_TOOL.name), Arguments(text), *rest]:
            return _is_json(text + _joined(rest))
    return False


def _joined(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Arguments))


def _is_json(text: str) -> bool:
    try:
        return bool(json.loads(text) == PROBE_ARGUMENTS)
    except ValueError:
        return False
