"""The response object of `/v1/responses`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infrs.api.common.fields import Body
from infrs.api.common.tools import OtherTool
from infrs.api.responses.body_parts import Namespace, ResponseTool, ToolChoice
from infrs.api.responses.request import ResponsesRequest

SAMPLING_FIELDS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_NO_TOOL = {"description": None, "parameters": None, "strict": None}  # OpenAI's clients require these fields


def _dump(part: Body) -> dict[str, Any]:
    return part.model_dump(by_alias=True, exclude_none=True)


def response(
    body: ResponsesRequest,
    *,
    response_id: str,
    created: int,
    stored: bool,
    status: str,
    sampling: Mapping[str, float],
    output: Sequence[Mapping[str, Any]] = (),
    usage: Mapping[str, Any] | None = None,
    completed: int | None = None,
    error: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the object. created, completed: Unix time in seconds. stored: whether its id can be used later.

    sampling: SAMPLING_FIELDS with the values in use.
    """
    text_format, choice = body.text and body.text.format, body.chosen
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "completed_at": completed,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": output,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        **sampling,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": stored,
        "text": {"format": _dump(text_format) if text_format else {"type": "text"}, "verbosity": _verbosity(body)},
        "tool_choice": _dump(choice) if isinstance(choice, ToolChoice) else choice,
        "tools": [_tool(tool) for tool in body.tools or () if not isinstance(tool, OtherTool)],
        "top_logprobs": body.top_logprobs or 0,
        "truncation": "disabled",
        "usage": usage,
        "user": body.user,
    }


def _tool(tool: ResponseTool | Namespace) -> dict[str, Any]:
    if isinstance(tool, Namespace):
        return _dump(tool) | {"tools": [_tool(function) for function in tool.functions]}
    return _NO_TOOL | _dump(tool)


def _verbosity(body: ResponsesRequest) -> str:
    return (body.text and body.text.verbosity) or "medium"
