"""Conversion of a chat completion request to neutral form."""

from __future__ import annotations

from infrs.api.chat.request import ChatCompletionRequest, ConversationFields, Message
from infrs.api.common.conversation import Call, ChatTask, Conversation, FieldNames, Turn
from infrs.api.common.tools import parse_arguments


def to_task(body: ChatCompletionRequest) -> ChatTask:
    """Return the conversation to answer, with its options."""
    return ChatTask(
        to_conversation(body),
        body.options,
        constraint=None if body.must_call else body.constraint,
        must_call=body.must_call,
        max_calls=body.max_calls,
        whitespace=body.whitespace,
    )


def to_conversation(body: ConversationFields) -> Conversation:
    """Return the messages, the tools and the template variables."""
    variables = body.chat_template_kwargs
    return Conversation(
        tuple(map(_turn, body.messages)),
        tools=tuple(body.callable_tools),
        continue_last=bool(body.continue_final_message),
        add_generation_prompt=not body.continue_final_message and body.add_generation_prompt is not False,
        variables={} if variables is None else variables.model_dump(exclude_none=True),
        reasoning_effort=body.effort,
        thinks=bool(body.thinks),
        thinking_budget=body.budget,
        field_names=FieldNames(reasoning_effort=body.effort_field, tools=body.declared_in),
    )


def _turn(message: Message) -> Turn:
    called = message.function_call
    calls = (
        [(call.id, call.function) for call in message.tool_calls or ()]
        if called is None
        else [(f"call_{called.name}", called)]
    )
    return Turn(
        message.role,
        message.text,
        name=message.name,
        reasoning=message.reasoning_content or message.reasoning,
        calls=tuple(Call(call_id, function.name, parse_arguments(function.arguments)) for call_id, function in calls),
        call_id=message.tool_call_id if message.role != "function" else f"call_{message.name}",
    )
