"""The prompt of a conversation: its messages as a chat template takes them, then token ids."""

from __future__ import annotations

from typing import Any

from infrs.api.common.conversation import Conversation, Variables
from infrs.errors import RequestError, UnsupportedParameterError
from infrs.models.loaded import LoadedModel
from infrs.text.chat.template import encode_chat

_TEMPLATE_ROLES = {"developer": "system", "function": "tool"}


def encode_prompt(model: LoadedModel, conversation: Conversation, limit: int) -> list[int]:
    """Return the token ids of the prompt.

    limit: tokens beyond which a prompt is refused before it is tokenised. Raises RequestError if the chat template
    refuses the messages, and as `template_variables` does.
    """
    variables = template_variables(model, conversation)
    try:
        return encode_chat(
            model.tokenizer,
            model.chat_format,
            template_messages(conversation),
            add_generation_prompt=conversation.add_generation_prompt,
            continue_final_message=conversation.continue_last,
            variables=variables,
            tools=conversation.tools,
            limit=limit,
        )
    except RequestError as error:
        raise RequestError(error.message, param=conversation.field_names.messages, code=error.code) from error


def template_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """Return the messages as chat templates take them. A tool's result has the name of the tool."""
    names: dict[str, str] = {}
    messages = []
    for turn in conversation.turns:
        message: dict[str, Any] = {"role": _TEMPLATE_ROLES.get(turn.role, turn.role), "content": turn.content}
        if turn.name is not None:
            message["name"] = turn.name
        if turn.reasoning is not None:
            message["reasoning_content"] = turn.reasoning
        if turn.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in turn.calls
            ]
            names |= {call.id: call.name for call in turn.calls}
        if turn.call_id is not None:
            message["tool_call_id"] = turn.call_id
            message.setdefault("name", names.get(turn.call_id, ""))
        messages.append(message)
    return messages


def template_variables(model: LoadedModel, conversation: Conversation) -> Variables:
    """Return the client's variables that the chat template reads.

    Raises UnsupportedParameterError for a variable that the template does not read, unless its value has no effect:
    false, `none`, or a `reasoning_effort` for a model without reasoning.
    """
    effort = conversation.reasoning_effort
    given = ({} if effort is None else {"reasoning_effort": effort}) | {**conversation.variables}
    known = model.chat_format.variables
    for name, value in given.items():
        is_effort = name == "reasoning_effort" and effort is not None
        if is_effort and not model.thinks:
            continue
        if name not in known and value not in (False, "none"):
            param = conversation.field_names.reasoning_effort if is_effort else f"chat_template_kwargs.{name}"
            raise UnsupportedParameterError(
                f"{param}: the chat template of {model.model_id} knows no {name}; remove it", param=param
            )
    return {name: value for name, value in given.items() if name in known}
