"""Find the form of conversation that a chat template reads, by rendering conversations with known texts.

Words in a template's source prove nothing: a comment can have them, and a template can drop what it names. So each
field of `Form` is tried with a conversation that needs it. The first value with which the prompt shows every text wins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from infrs.errors import RequestError
from infrs.text.chat.conversation import Message, Messages, declared, for_template, tool_variables
from infrs.text.chat.form import IN_SYSTEM_MESSAGE, IN_TEXT, TOOL_VARIABLES, Form
from infrs.text.chat.shown import unseen
from infrs.text.tools.call_grammar import Tool

SECONDS = 5.0  # for all probes of a template, which take milliseconds
# Return the prompt of messages in the template's form, with variables. Raises RequestError.
Render = Callable[[Messages, Mapping[str, Any]], str]

# Texts of digits: no template changes digits.
_SYSTEM, _SYSTEM_2, _SYSTEM_3 = ({"role": "system", "content": f"7710001{index}"} for index in range(3))
_USER, _USER_2, _USER_3 = ({"role": "user", "content": f"7710002{index}"} for index in range(3))
_ANSWER, _ANSWER_2 = ({"role": "assistant", "content": f"7710003{index}"} for index in range(2))
_NAME, _REASONING = "f77100040", "77100060"
_CALLS = [
    {
        "id": f"id{index}",
        "type": "function",
        "function": {"name": _NAME, "arguments": {"first": f"7710008{index}", "second": 77100090 + index}},
    }
    for index in range(2)
]
_CALLING = {"role": "assistant", "content": "", "tool_calls": _CALLS[:1]}
_RESULT, _RESULT_2 = (
    {"role": "tool", "content": f"7710010{index}", "tool_call_id": call["id"], "name": _NAME}
    for index, call in enumerate(_CALLS)
)
_PROPERTIES = {name: {"type": kind, "description": name} for name, kind in (("first", "string"), ("second", "integer"))}
_TOOLS = declared([Tool(_NAME, "text", {"type": "object", "properties": _PROPERTIES, "required": ["first"]})])

# Conversations, and the values to try with them. `parts` is a role to add to `Form.part_roles`.
_PROBES: tuple[tuple[list[Message], dict[str, tuple[Any, ...]]], ...] = (
    ([_USER], {"no_tools_is_list": (False, True), "parts": (None, "user")}),
    ([_USER, _ANSWER, _USER_2], {"parts": (None, "assistant")}),
    (
        [_SYSTEM, _SYSTEM_2, _USER, _ANSWER, _SYSTEM_3, _USER_2],
        {"system": ("anywhere", "first", "nowhere"), "parts": (None, "system")},
    ),
    ([_USER, _USER_2, _ANSWER, _ANSWER_2, _USER_3], {"merges": (False, True)}),
)
_TOOL_PROBES: tuple[tuple[list[Message], dict[str, tuple[Any, ...]]], ...] = (
    ([_USER], {"tools": (*TOOL_VARIABLES, IN_SYSTEM_MESSAGE, IN_TEXT), "tools_need_system": (False, True)}),
    (
        [_USER, _CALLING, _RESULT],
        {
            "calls": ("object", "string", "metadata", "text"),
            "results": ("tool", "text"),
            "empty_content": ("", None),
            "ids": ("own", "short", "named"),
            "parts": (None, "tool"),
        },
    ),
    ([_USER, {**_CALLING, "content": _ANSWER["content"]}, _RESULT], {"splits_calls": (False, True)}),
    ([_USER, {**_CALLING, "tool_calls": _CALLS}, _RESULT, _RESULT_2], {"one_call": (False, True)}),
    (
        [_USER, {**_CALLING, "reasoning_content": _REASONING}, _RESULT],
        {"reasoning": ("reasoning_content", "reasoning", "thinking")},
    ),
)


def probe(render: Render) -> Form:
    """Return the form of conversation that a template reads. A field with no value that works keeps its default."""
    form, deadline = Form(), time.monotonic() + SECONDS
    for probes, tools in ((_PROBES, []), (_TOOL_PROBES, _TOOLS)):
        for messages, options in probes:
            for candidate in _candidates(form, options):
                if time.monotonic() > deadline:
                    return form
                if _shows_all(render, candidate, messages, tools):
                    form = candidate
                    break
    return form


def _candidates(form: Form, options: Mapping[str, Sequence[Any]]) -> Iterator[Form]:
    for values in product(*options.values()):
        changes = dict(zip(options, values, strict=True))
        role = changes.pop("parts", None)
        if role is not None:
            changes["part_roles"] = form.part_roles | {role}
        if changes.get("calls") == "text" and form.tools in (IN_TEXT, IN_SYSTEM_MESSAGE):
            changes["results"] = "text"  # the template knows nothing of tools
        yield replace(form, **changes)


def _shows_all(render: Render, form: Form, messages: Messages, tools: Sequence[Message]) -> bool:
    try:
        prompt = render(for_template(messages, tools, form), tool_variables(tools, form))
    except RequestError:
        return False
    texts = [_NAME] if tools else []
    texts += [message["reasoning_content"] for message in messages if "reasoning_content" in message]
    calls = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    is_raw = any(str(call["arguments"]) in prompt for call in calls)  # Python's form of an object, which is not JSON
    return not is_raw and not unseen(prompt, messages) and all(text in prompt for text in texts)
