"""What a body of Anthropic's asks, as the chat completion that asks the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any, ClassVar

from infrs.api.anthropic.blocks import Block, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.fields import parse_body
from infrs.errors import UnsupportedParameterError

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_THINKING_SWITCHES = ("enable_thinking", "thinking")  # what chat templates call it


class MessagesChat(ChatCompletionRequest):
    """A chat completion that was asked for in Anthropic's words."""

    effort_param: ClassVar[str] = "output_config.effort"
    format_param: ClassVar[str] = "output_config.format"


def to_chat(body: CountTokensRequest, *, variables: frozenset[str], thinks: bool) -> MessagesChat:
    """The same as a chat completion. variables: what the chat template looks at. thinks: whether the model does.

    Raises UnsupportedParameterError where the model cannot be told whether to think; RequestError.
    """
    choice, form = body.tool_choice, body.output_format
    asked: dict[str, Any] = {
        "model": body.model,
        "messages": [*_system(body), *_messages(body)],
        "continue_final_message": body.messages[-1].role == "assistant",
        "chat_template_kwargs": _thinking(body, variables, thinks),
        "reasoning_effort": _effort(body, variables),
        "tools": [_tool(tool.name, tool.description, tool.input_schema, tool.strict) for tool in body.tools or ()],
    }
    if form is not None:
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "output", "schema": form.schema_}}
    if choice is not None:
        named = {"type": "function", "function": {"name": choice.name}}
        asked["tool_choice"] = _CHOICES.get(choice.type, named)
        asked["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if isinstance(body, MessagesRequest):
        asked |= {name: getattr(body, name) for name in ("max_tokens", "stream", "temperature", "top_p", "top_k")}
        asked |= {"stop": body.stop_sequences, "user": body.metadata.user_id if body.metadata else None}
    return parse_body(MessagesChat, asked)


def _tool(name: str, description: str | None, parameters: dict[str, Any], strict: bool | None) -> dict[str, Any]:
    function = {"name": name, "description": description, "parameters": parameters, "strict": strict}
    return {"type": "function", "function": function}


def _effort(body: CountTokensRequest, variables: frozenset[str]) -> str | None:
    """The effort, for a template that has a word for it. Claude Code sends one with each request, to any model."""
    return body.output_config.effort if body.output_config and "reasoning_effort" in variables else None


def _thinking(body: CountTokensRequest, variables: frozenset[str], thinks: bool) -> dict[str, Any] | None:
    if body.thinking is None:
        return None
    if thinks and body.thinking.display == "omitted":
        raise UnsupportedParameterError(
            "thinking.display: 'omitted' is not supported by this server; remove it", param="thinking.display"
        )
    switch = next((name for name in _THINKING_SWITCHES if name in variables), None)
    if body.thinking.type == "adaptive" and switch is None:
        return {}  # the model decides: one that does not think has decided
    wanted = body.thinking.type != "disabled"
    if switch is None and wanted != thinks:
        state = "always thinks" if thinks else "knows no thinking"
        raise UnsupportedParameterError(f"thinking: the model served here {state}; remove it", param="thinking")
    told: dict[str, Any] = {} if switch is None else {switch: wanted}
    if body.thinking.budget_tokens is not None and "thinking_budget" in variables:
        told["thinking_budget"] = body.thinking.budget_tokens
    return told


def _system(body: CountTokensRequest) -> list[dict[str, Any]]:
    return [{"role": "system", "content": _text(body.system)}] if body.system else []


def _messages(body: CountTokensRequest) -> Iterator[dict[str, Any]]:
    """Turns of the same role that follow one another are one turn, as with Anthropic."""
    for role, turns in groupby(body.messages, key=lambda message: message.role):
        blocks = [block for turn in turns for block in turn.content]
        if role == "assistant":
            yield _assistant(blocks)
            continue
        for is_result, run in groupby(blocks, key=lambda block: isinstance(block, ToolResultBlock)):
            if is_result:
                yield from (_result(block) for block in run if isinstance(block, ToolResultBlock))
            else:
                yield {"role": role, "content": _text(run)}


def _assistant(blocks: list[Block]) -> dict[str, Any]:
    calls = [block for block in blocks if isinstance(block, ToolUseBlock)]
    thoughts = [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]
    return {
        "role": "assistant",
        "content": _text(blocks),
        "reasoning_content": "\n".join(thoughts) if thoughts else None,
        "tool_calls": [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.input)}}
            for call in calls
        ],
    }


def _result(block: ToolResultBlock) -> dict[str, Any]:
    """Chat templates have no word for a call that failed, so the text says it."""
    text = _text(block.content or ())
    told = f"Error: {text}" if block.is_error else text
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": told}


def _text(blocks: Any) -> str:  # noqa: ANN401  # any blocks
    """The text among blocks, each block's on lines of its own."""
    return "\n".join(block.text for block in blocks if isinstance(block, TextBlock))
