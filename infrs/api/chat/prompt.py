"""The prompt of a conversation: its messages as a chat template takes them, then token ids."""

from __future__ import annotations

from typing import Any

from infrs.api.common.conversation import THINKING_SWITCHES, Conversation, Variables
from infrs.errors import ContextLengthError, RequestError, UnsupportedParameterError, prompt_too_long
from infrs.models.loaded import LoadedModel
from infrs.text.chat.prompt import encode_chat

# Variables that concern thinking alone: hints for a model that does not think.
_OF_THINKING = frozenset(
    {"enable_thinking", "thinking", "thinking_budget", "clear_thinking", "preserve_thinking", "reasoning_effort"}
)
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
    except ContextLengthError as error:
        raise _too_long(model, error, conversation.field_names.messages) from error
    except RequestError as error:
        raise RequestError(error.message, param=conversation.field_names.messages, code=error.code) from error


def _too_long(model: LoadedModel, error: ContextLengthError, param: str) -> ContextLengthError:
    """Return the error of a prompt that certainly exceeds the limit, in the words of the client's API."""
    num_tokens, limit = error.num_tokens or 0, error.max_tokens or 0
    if limit <= model.limits.max_model_len:
        return prompt_too_long(num_tokens, limit, param)
    message = f"{param} has {num_tokens} tokens or more, but at most {limit} are counted; shorten {param}"
    return ContextLengthError(message, param=param, num_tokens=num_tokens, max_tokens=limit)


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
    false, `none`, or any value of a variable of thinking for a model that does not think. An effort that the template
    does not read is a hint, but `none` turns thinking off if the template can.
    """
    known = model.chat_format.variables
    for name in _unread(model, conversation):
        if model.thinks or name not in _OF_THINKING:
            param = f"chat_template_kwargs.{name}"
            raise UnsupportedParameterError(
                f"{param}: the chat template of {model.model_id} knows no {name}; remove it", param=param
            )
    read = {name: value for name, value in conversation.variables.items() if name in known}
    return {**_thinking(model, conversation), **read}


def ignored_variables(model: LoadedModel, conversation: Conversation) -> list[str]:
    """Return the names of the request's fields about thinking that this model does not follow."""
    names = [f"chat_template_kwargs.{name}" for name in _unread(model, conversation)]
    effort, followed = conversation.reasoning_effort, _thinking(model, conversation)
    asked = conversation.thinks or effort not in (None, "none") or (effort == "none" and model.thinks)
    if asked and not followed.keys() - {"thinking_budget"}:
        names = [conversation.field_names.reasoning_effort, *names]
    if conversation.thinking_budget is not None and "thinking_budget" not in followed:
        names.append("thinking_budget")
    return names


def _thinking(model: LoadedModel, conversation: Conversation) -> Variables:
    """Return the variables of the chat template that follow the effort, the switch and the budget of reasoning."""
    effort, budget, known = conversation.reasoning_effort, conversation.thinking_budget, model.chat_format.variables
    followed: dict[str, str | int | float | bool] = {}
    switch = next((name for name in THINKING_SWITCHES if name in known), None)
    if effort is not None and "reasoning_effort" in known:
        followed["reasoning_effort"] = effort
    elif switch is not None and model.thinks and (effort == "none" or conversation.thinks):
        followed[switch] = effort != "none"
    if budget is not None and "thinking_budget" in known:
        followed["thinking_budget"] = budget
    return followed


def _unread(model: LoadedModel, conversation: Conversation) -> list[str]:
    """Return the variables with an effect that the chat template does not read."""
    known = model.chat_format.variables
    return [
        name for name, value in conversation.variables.items() if name not in known and value not in (False, "none")
    ]
