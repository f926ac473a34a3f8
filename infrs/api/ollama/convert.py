"""Conversion of Ollama's requests to neutral form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from infrs.api.common.conversation import (
    THINKING_SWITCHES,
    Call,
    ChatTask,
    Conversation,
    FieldNames,
    GenerationOptions,
    Turn,
    Variables,
)
from infrs.api.ollama.messages import Message
from infrs.api.ollama.request import AnswerRequest, OllamaChatRequest, OllamaGenerateRequest
from infrs.api.ollama.request_options import Options
from infrs.errors import RequestError, UnsupportedParameterError
from infrs.text.constraint import JSON_OBJECT, Constraint, to_json

_FIELD_NAMES = FieldNames(reasoning_effort="think")


def to_chat_task(body: OllamaChatRequest, *, variables: frozenset[str], thinks: bool) -> ChatTask:
    """Return the conversation to answer, with its options.

    variables: those that the chat template reads. thinks: whether the model writes reasoning.
    Raises UnsupportedParameterError for `think` that the model cannot follow, RequestError for a result without a call.
    """
    turns = tuple(_turns(body.messages or ()))
    switches, effort = _thinking(body, variables, thinks)
    continue_last = turns[-1].role == "assistant"
    conversation = Conversation(
        turns,
        tools=tuple(tool.function.as_tool() for tool in body.tools or ()),
        continue_last=continue_last,
        add_generation_prompt=not continue_last,
        variables=switches,
        reasoning_effort=effort,
        field_names=_FIELD_NAMES,
    )
    return ChatTask(conversation, to_options(body), constraint=to_constraint(body))


def to_prompt_task(body: OllamaGenerateRequest, *, variables: frozenset[str], thinks: bool) -> ChatTask:
    """Return the conversation of a system message, if there is one, and the prompt. See `to_chat_task`."""
    switches, effort = _thinking(body, variables, thinks)
    system = [Turn("system", body.system)] if body.system else []
    conversation = Conversation(
        (*system, Turn("user", body.prompt or "")),
        variables=switches,
        reasoning_effort=effort,
        field_names=FieldNames(messages="prompt", reasoning_effort="think"),
    )
    return ChatTask(conversation, to_options(body), constraint=to_constraint(body))


def to_options(body: AnswerRequest) -> GenerationOptions:
    """Return the options of generation."""
    options = body.options or Options()
    return GenerationOptions(
        sampling={**body.given("temperature", "top_p"), **options.sampling},
        max_tokens=body.max_output_tokens if options.num_predict is None else options.max_tokens,
        stop=tuple(options.stop or ()),
        num_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        stream=body.streams,
    )


def to_constraint(body: AnswerRequest) -> Constraint | None:
    """Return the constraint of `format`."""
    if body.format is None:
        return None
    schema = JSON_OBJECT if isinstance(body.format, str) else to_json(body.format)
    return Constraint("json_schema", schema, "format")


def ignored_thinking(body: AnswerRequest, *, variables: frozenset[str]) -> list[str]:
    """Return `think` if it is a level that the chat template does not read, and so means true."""
    return ["think"] * (isinstance(body.think, str) and "reasoning_effort" not in variables)


def _thinking(body: AnswerRequest, variables: frozenset[str], thinks: bool) -> tuple[Variables, str | None]:
    """Return the variables of the chat template and the effort that follow `think`."""
    think = body.think
    if think is None or (not thinks and think is False):
        return {}, None
    if not thinks:
        raise UnsupportedParameterError(f'"{body.model}" does not support thinking; remove think', param="think")
    if isinstance(think, str) and "reasoning_effort" in variables:
        return {}, think
    switch = next((name for name in THINKING_SWITCHES if name in variables), None)
    if switch is not None:
        return {switch: bool(think)}, None
    if think is False:
        raise UnsupportedParameterError(f"think: {body.model} always thinks; remove it", param="think")
    return {}, None


def _turns(messages: Iterable[Message]) -> Iterator[Turn]:
    """Yield the turns. A call without an id gets one, and a result without an id belongs to the next open call."""
    num_calls, open_calls = 0, list[Call]()
    for index, message in enumerate(messages):
        text = message.content or ""
        if message.role == "tool":
            call = _answered(message, open_calls)
            if call is None:
                name = f"messages[{index}]"
                raise RequestError(f"{name}: no call before it waits for this result; send the call", param=name)
            open_calls.remove(call)
            yield Turn("tool", text, call_id=call.id)
            continue
        calls = []
        for called in message.tool_calls or ():
            num_calls += 1
            calls.append(Call(called.id or f"call_{num_calls}", called.function.name, called.function.arguments))
        open_calls += calls
        yield Turn(message.role, text, reasoning=message.thinking or None, calls=tuple(calls))


def _answered(message: Message, calls: Iterable[Call]) -> Call | None:
    """Return the first of the open calls that a message may have the result of."""
    name = message.tool_name or message.name
    return next(
        (
            call
            for call in calls
            if (message.tool_call_id is None or call.id == message.tool_call_id) and (name is None or call.name == name)
        ),
        None,
    )
