"""The response object of `/v1/responses`, whole, in the making or failed, and what lists and deletions answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from infrs.api.common.fields import Body
from infrs.api.responses.options import Namespace, OtherTool, ResponseTool, ToolChoice
from infrs.api.responses.request import ResponsesRequest

SAMPLING_FIELDS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_NO_TOOL = {"description": None, "parameters": None, "strict": None}  # which OpenAI's clients expect in any case


def _dump(part: Body) -> dict[str, Any]:
    return part.model_dump(by_alias=True, exclude_none=True)


def response(
    asked: ResponsesRequest,
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
    """Return the object. created, completed: Unix time in seconds. stored: whether it can be had again by its id.

    sampling: SAMPLING_FIELDS with the values that were used, asked for or not.
    """
    text_format, choice = asked.text and asked.text.format, asked.tool_choice or "auto"
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "completed_at": completed,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "metadata": asked.metadata or {},
        "model": asked.model,
        "output": output,
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        **sampling,
        "previous_response_id": asked.previous_response_id,
        "prompt_cache_key": asked.prompt_cache_key,
        "reasoning": {"effort": asked.reasoning and asked.reasoning.effort, "summary": None},
        "safety_identifier": asked.safety_identifier,
        "service_tier": "default",
        "store": stored,
        "text": {"format": _dump(text_format) if text_format else {"type": "text"}, "verbosity": _verbosity(asked)},
        "tool_choice": _dump(choice) if isinstance(choice, ToolChoice) else choice,
        "tools": [_tool(tool) for tool in asked.tools or () if not isinstance(tool, OtherTool)],
        "top_logprobs": asked.top_logprobs or 0,
        "truncation": "disabled",
        "usage": usage,
        "user": asked.user,
    }


def _tool(tool: ResponseTool | Namespace) -> dict[str, Any]:
    if isinstance(tool, Namespace):
        return _dump(tool) | {"tools": [_tool(function) for function in tool.functions]}
    return _NO_TOOL | _dump(tool)


def _verbosity(asked: ResponsesRequest) -> str:
    return (asked.text and asked.text.verbosity) or "medium"


def item_list(items: Sequence[Mapping[str, Any]], *, has_more: bool) -> bytes:
    """A page of items."""
    ids = [item["id"] for item in items]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return orjson.dumps({"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more})


def deleted(response_id: str) -> bytes:
    """What a deletion answers."""
    return orjson.dumps({"id": response_id, "object": "response", "deleted": True})
