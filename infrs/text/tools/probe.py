"""Render a call with a chat template, to see in which notation the model writes calls."""

from __future__ import annotations

from typing import Any, Protocol

from infrs.errors import RequestError
from infrs.text.tools.call_grammar import Tool

PROBE_TOOL = Tool(
    "probe_tool", "d", {"type": "object", "properties": {"probe_key": {"type": "string"}}, "required": ["probe_key"]}
)
PROBE_ARGUMENTS = {"probe_key": "probe_value"}
_TEXT = "?"


class Renders(Protocol):
    """A chat template."""

    def render(self, messages: Any, *, add_generation_prompt: bool = True, variables: Any = None) -> str:  # noqa: ANN401
        """Return the prompt. Raises RequestError."""


def rendered_call(template: Renders) -> str:
    """Return the text of a call of PROBE_TOOL as a chat template writes it; empty if it writes no calls."""
    function = {"name": PROBE_TOOL.name, "arguments": PROBE_ARGUMENTS}
    calls = [{"id": "probe0001", "type": "function", "function": function}]
    called = _render(template, {"role": "assistant", "content": "", "tool_calls": calls})
    plain = _render(template, {"role": "assistant", "content": _TEXT})
    call = called[_num_shared(called, plain) :]
    call = call[: len(call) - _num_shared(call[::-1], plain[::-1])]
    return call if PROBE_TOOL.name in call else ""


def _num_shared(one: str, other: str) -> int:
    """Return the length of the longest common prefix."""
    differences = (index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(differences, min(len(one), len(other)))


def _render(template: Renders, answer: dict[str, Any]) -> str:
    messages = [{"role": "user", "content": "u"}, answer]
    try:
        return template.render(messages, add_generation_prompt=False)
    except RequestError:
        return ""
