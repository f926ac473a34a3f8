"""The path of a request to a chat model: parse, find the model, admit, prepare in a text thread, respond."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import orjson
from sanic import HTTPResponse, Request

from infrs.api.common.ignored import header
from infrs.api.common.strict_json import parse_object
from infrs.api.common.structured_output import GRAMMAR_FIELDS
from infrs.api.output.prepared import Prepared
from infrs.core import RequestContext
from infrs.http.error_handler import JSON
from infrs.http.respond import answer
from infrs.http.state import context_of, state_of
from infrs.models.loaded import LoadedModel

LONG_BODY = 1 << 15  # bytes; to tokenise more can take over 20 ms


class NamesModel(Protocol):
    """A parsed request."""

    @property
    def model(self) -> str | None:
        """Return the id of the model that it names."""


B = TypeVar("B", bound=NamesModel)


async def generate(
    request: Request,
    parse: Callable[[dict[str, Any]], B],
    prepare: Callable[[LoadedModel, B, RequestContext], Prepared],
) -> HTTPResponse | None:
    """Generate answers, streamed or whole. `prepare` of an API runs in a text thread."""
    state, context = state_of(request), context_of(request)
    payload = parse_object(request.body)
    body = parse(payload)
    served = state.require_models().find_chat(body.model)
    is_long = len(request.body) > LONG_BODY or any(map(payload.get, GRAMMAR_FIELDS))
    with served.admitted(context.tenant):
        prepared = await state.in_thread(lambda: prepare(served.model, body, context), context, is_long=is_long)
        return await answer(request, served, prepared)


async def compute(
    request: Request,
    parse: Callable[[dict[str, Any]], B],
    work: Callable[[LoadedModel, B], dict[str, Any]],
    hints: Callable[[B], Sequence[str]],
) -> HTTPResponse:
    """Respond with the result of `work`, which needs the model's tokenizer but not its engine.

    hints: returns the names of the parts of a request that change nothing.
    """
    state, context = state_of(request), context_of(request)
    body = parse(parse_object(request.body))
    served = state.require_models().find_chat(body.model)
    is_long = len(request.body) > LONG_BODY
    with served.admitted(context.tenant):
        content = await state.in_thread(lambda: orjson.dumps(work(served.model, body)), context, is_long=is_long)
        return HTTPResponse(content, headers=header(hints(body)), content_type=JSON)
