"""Conversion of Anthropic's requests to neutral form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from infrs.api.anthropic.content_blocks import Block, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
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
from infrs.api.common.fields import MAX_MESSAGES
from infrs.errors import RequestError, UnsupportedParameterError
from infrs.text.constraint import Constraint, to_json

_FIELD_NAMES = FieldNames(reasoning_effort="output_config.effort")


def to_task(body: MessagesRequest, *, variables: frozenset[str], thinks: bool) -> ChatTask:
    """Return the conversation to answer, with its options. Arguments and errors: see `to_conversation`."""
    choice, output = body.tool_choice, body.answer_format
    is_single = choice is not None and (choice.disable_parallel_tool_use or choice.type in ("tool", "none"))
    schema = None
    if output is not None and not body.must_call:
        schema = Constraint("json_schema", to_json(output.schema_), body.format_field)
    return ChatTask(
        to_conversation(body, variables=variables, thinks=thinks),
        GenerationOptions(
            sampling=body.given("temperature", "top_p", "top_k"),
            max_tokens=body.max_tokens,
            stop=tuple(body.stop_sequences or ()),
            stream=bool(body.stream),
        ),
        constraint=schema,
        must_call=body.must_call,
        max_calls=1 if is_single else None,
    )


def to_conversation(body: CountTokensRequest, *, variables: frozenset[str], thinks: bool) -> Conversation:
    """Return the messages, the tools and the template variables.

    variables: those that the chat template reads. thinks: whether the model writes reasoning.
    Raises UnsupportedParameterError for `thinking` that the model cannot follow, RequestError for too many messages.
    """
    thinking = _thinking(body, variables, thinks)
    turns = (*_system(body), *_turns(body))
    if len(turns) > MAX_MESSAGES:
        raise RequestError(
            f"messages: expected at most {MAX_MESSAGES}, not {len(turns)}",
            param="messages",
            code="array_above_max_length",
        )
    # Claude Code sends an effort with each request, to any model.
    effort = body.output_config.effort if body.output_config and "reasoning_effort" in variables else None
    continue_last = body.messages[-1].role == "assistant"
    return Conversation(
        turns,
        tools=tuple(tool.as_tool() for tool in body.callable_tools),
        continue_last=continue_last,
        add_generation_prompt=not continue_last,
        variables=thinking,
        reasoning_effort=effort,
        field_names=_FIELD_NAMES,
    )


def ignored_parts(body: CountTokensRequest, *, variables: frozenset[str], thinks: bool) -> list[str]:
    """Return the names of what is not in the prompt and of thinking that the model cannot follow.

    Arguments: see `to_conversation`.
    """
    found = ["system[x-anthropic-billing-header]"] * any(block.is_billing for block in body.system or ())
    found += dict.fromkeys(body.dropped)
    if body.output_config and body.output_config.effort and "reasoning_effort" not in variables:
        found.append("output_config.effort")
    thinking = body.thinking
    if thinking is not None and thinking.type != "disabled" and _switch(variables) is None:
        found.append("thinking.budget_tokens" if thinks and thinking.budget_tokens else "thinking")
    return found


def _switch(variables: frozenset[str]) -> str | None:
    """Return the variable of the chat template that turns thinking on and off."""
    return next((name for name in THINKING_SWITCHES if name in variables), None)


def _thinking(body: CountTokensRequest, variables: frozenset[str], thinks: bool) -> Variables:
    thinking, switch = body.thinking, _switch(variables)
    if thinking is None:
        return {}
    if switch is None:
        if thinks and thinking.type == "disabled":
            raise UnsupportedParameterError(
                "thinking: the model served here always thinks; remove it", param="thinking"
            )
        return {}
    switched: Variables = {switch: thinking.type != "disabled"}
    if thinking.budget_tokens is not None and "thinking_budget" in variables:
        return {**switched, "thinking_budget": thinking.budget_tokens}
    return switched


def _system(body: CountTokensRequest) -> list[Turn]:
    blocks = [block for block in body.system or () if not block.is_billing]
    return [Turn("system", _text(blocks))] if blocks else []


def _turns(body: CountTokensRequest) -> Iterator[Turn]:
    """Yield the turns. Consecutive messages of one role are one turn, as in Anthropic's API."""
    for role, messages in groupby(body.messages, key=lambda message: message.role):
        blocks = [block for message in messages for block in message.content]
        if role == "assistant":
            yield _assistant(blocks)
            continue
        for is_result, run in groupby(blocks, key=lambda block: isinstance(block, ToolResultBlock)):
            if is_result:
                yield from (_result(block) for block in run if isinstance(block, ToolResultBlock))
            else:
                yield Turn(role, _text(run))


def _assistant(blocks: list[Block]) -> Turn:
    thoughts = [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]
    calls = (Call(block.id, block.name, block.input) for block in blocks if isinstance(block, ToolUseBlock))
    return Turn("assistant", _text(blocks), reasoning="\n".join(thoughts) if thoughts else None, calls=tuple(calls))


def _result(block: ToolResultBlock) -> Turn:
    """Return the turn of a result. Chat templates have no field for a failed call, so its text says so."""
    text = _text(block.content or ())
    return Turn("tool", f"Error: {text}" if block.is_error else text, call_id=block.tool_use_id)


def _text(blocks: Iterable[Block]) -> str:
    """Return the text blocks, joined by line ends."""
    return "\n".join(block.text for block in blocks if isinstance(block, TextBlock))
