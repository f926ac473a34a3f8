"""The bodies of `/v1/responses`: the response object, pages of its input items, deletions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from infrs.api.common.fields import Body
from infrs.api.common.tools import OtherTool
from infrs.api.responses.options import Namespace, ResponseTool, ToolChoice
from infrs.api.responses.request import ResponsesRequest
from infrs.api.responses.store import StoredItem
from infrs.errors import RequestError

SAMPLING_FIELDS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_MAX_PAGE = 100
_DEFAULT_PAGE = 20
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


def item_page(
    items: Sequence[StoredItem], *, order: str | None = None, limit: str | None = None, after: str | None = None
) -> bytes:
    """Return a page of items.

    order: `asc`, or `desc`, the default. limit: the most items, 20 by default. after: the id of the item before the
    page. Raises RequestError that names the argument.
    """
    if order not in (None, "asc", "desc"):
        raise RequestError("order: expected asc or desc", param="order")
    if limit is not None and not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MAX_PAGE):
        raise RequestError(f"limit: expected an integer from 1 to {_MAX_PAGE}", param="limit")
    if order != "asc":
        items = items[::-1]
    if after is not None:
        ids = [name for name, _ in items]
        if after not in ids:
            raise RequestError("after: this response has no such item; send the last_id of a page", param="after")
        items = items[ids.index(after) + 1 :]
    size = int(limit or _DEFAULT_PAGE)
    page = items[:size]
    first, last = (page[0][0], page[-1][0]) if page else (None, None)
    data = [orjson.Fragment(item) for _, item in page]
    return orjson.dumps(
        {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(items) > size}
    )


def deleted(response_id: str) -> bytes:
    """Return the body of a deletion."""
    return orjson.dumps({"id": response_id, "object": "response", "deleted": True})
