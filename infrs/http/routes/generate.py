"""The path of a request to a chat model: parse, find the model, admit, prepare in a text thread, respond."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import orjson
from sanic import HTTPResponse, Request

from infrs.api.common.ignored import header
from infrs.api.common.strict_json import collection_paused, parse_object
from infrs.api.common.structured_output import GRAMMAR_FIELDS
from infrs.api.output.prepared import Prepared, StreamForm
from infrs.core import RequestContext
from infrs.http.early_stream import early_stream
from infrs.http.error_handler import JSON
from infrs.http.respond import answer
from infrs.http.state import context_of, state_of
from infrs.models.loaded import LoadedModel
from infrs.models.served import ServedChatModel

LONG_BODY = 1 << 15  # bytes; to parse or tokenise more can take over 20 ms


class NamesModel(Protocol):
    """A parsed request."""

    @property
    def model(self) -> str | None:
        """Return the id of the model that it names."""


B = TypeVar("B")
M = TypeVar("M", bound=NamesModel)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[B]):
    """A request's body, and whether its text work may take over 20 ms."""

    body: B
    is_long: bool


async def read_body(request: Request, parse: Callable[[dict[str, Any]], B]) -> Parsed[B]:
    """Parse and validate a body, in a text thread if it is long."""

    def work() -> Parsed[B]:
        with collection_paused():
            payload = parse_object(request.body)
            return Parsed(parse(payload), is_long or any(map(payload.get, GRAMMAR_FIELDS)))

    is_long = len(request.body) > LONG_BODY
    return await state_of(request).in_thread(work, context_of(request), is_long=True) if is_long else work()


async def generate(
    request: Request,
    parsed: Parsed[M],
    prepare: Callable[[LoadedModel, M, RequestContext], Prepared],
    form: StreamForm | None = None,
) -> HTTPResponse | None:
    """Generate answers, streamed or whole. `prepare` of an API runs in a text thread. form: see `early_stream`."""
    return await generate_with(request, parsed, parsed.body.model, prepare, form)


async def generate_with(
    request: Request,
    parsed: Parsed[B],
    name: str | None,
    prepare: Callable[[LoadedModel, B, RequestContext], Prepared],
    form: StreamForm | None = None,
) -> HTTPResponse | None:
    """Generate answers with the model of a name; see `generate`."""
    async with early_stream(request, form) as early, prepared_by(request, parsed, name, prepare) as (served, prepared):
        return await answer(request, served, prepared, None if early is None else await early.ready())
    return None


@asynccontextmanager
async def prepared_by(
    request: Request,
    parsed: Parsed[B],
    name: str | None,
    prepare: Callable[[LoadedModel, B, RequestContext], Prepared],
) -> AsyncIterator[tuple[ServedChatModel, Prepared]]:
    """Admit a request to the model of a name for the block, and prepare it there; see `generate`."""
    state, context, body = state_of(request), context_of(request), parsed.body
    async with state.require_models().use_chat(name, context) as served:
        prepared = await state.in_thread(lambda: prepare(served.model, body, context), context, is_long=parsed.is_long)
        yield served, prepared


async def compute(
    request: Request,
    parsed: Parsed[M],
    work: Callable[[LoadedModel, M], dict[str, Any]],
    hints: Callable[[M], Sequence[str]],
) -> HTTPResponse:
    """Respond with the result of `work`, which needs the model's tokenizer but not its engine.

    hints: returns the names of the parts of a request that change nothing.
    """
    state, context, body = state_of(request), context_of(request), parsed.body
    async with state.require_models().use_chat(body.model, context) as served:

        def respond() -> HTTPResponse:
            content = orjson.dumps(work(served.model, body))
            return HTTPResponse(content, headers=header(hints(body)), content_type=JSON)

        return await state.in_thread(respond, context, is_long=parsed.is_long)
