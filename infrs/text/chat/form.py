"""The form of a conversation that a chat template reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

IN_TEXT = "text"
IN_SYSTEM_MESSAGE = "message"
TOOL_VARIABLES = ("tools", "xml_tools")


@dataclass(frozen=True, slots=True)
class Form:
    """What a chat template reads, as `infrs.text.chat.probe` finds it. The defaults suit OpenAI's format.

    part_roles: roles with content as a list of parts; other content is a string. no_tools_is_list: without tools, the
    variable `tools` is an empty list, not none. system: where system messages can stand; elsewhere their text goes
    before the next user message. merges: consecutive messages of one role become one.
    tools: the variable with the tools, IN_SYSTEM_MESSAGE for the key `tools` of that message, or IN_TEXT.
    tools_need_system: the template shows tools only with a system message.
    calls: the arguments of a call as an object or as JSON in a string, or the whole call as text of the message. Or
    each call is a message with its name as `metadata` and its arguments as text, and results have the role
    `observation` (GLM-4-0414).
    empty_content: content of a message of calls only. splits_calls: the text before calls is its own message.
    one_call: each call is its own message, followed by its result. results: a tool's result as a message of the role
    `tool`, or as text of a user message. ids: those of the client, 9 characters (Mistral) or names with numbers (Kimi).
    reasoning: the key of reasoning.
    example: a call of `function_name` as the template writes it, for instructions; empty for calls as text.
    """

    part_roles: frozenset[str] = frozenset()
    no_tools_is_list: bool = False
    system: Literal["anywhere", "first", "nowhere"] = "anywhere"
    merges: bool = False
    tools: str = TOOL_VARIABLES[0]
    tools_need_system: bool = False
    calls: Literal["object", "string", "metadata", "text"] = "object"
    empty_content: str | None = ""
    splits_calls: bool = False
    one_call: bool = False
    results: Literal["tool", "text"] = "tool"
    ids: Literal["own", "short", "named"] = "own"
    reasoning: str = "reasoning_content"
    example: str = ""

    @property
    def alternatives(self) -> tuple[Form, ...]:
        """Return forms to try with a conversation of which a template leaves out a part in this form.

        Some templates drop a part only at some places: Mistral's the system message while tools run, gpt-oss's the text
        before earlier calls. The last form needs nothing but messages that alternate between user and assistant.
        """
        return (
            replace(self, system="nowhere"),
            replace(self, splits_calls=True, one_call=True),
            replace(self, system="nowhere", merges=True, calls="text", results="text"),
        )


TEXT_FORM = Form(tools=IN_TEXT, calls="text", results="text")  # of a format that knows no tools
