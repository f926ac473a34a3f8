"""`/v1/responses`: a conversation answered as items, and answers that are kept to be gone on from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sanic import HTTPResponse, Request

from infrs.api.chat.choice import ChoiceReader
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common import convert
from infrs.api.common.errors import ResponseNotFoundError
from infrs.api.common.strict_json import parse_object
from infrs.api.responses import body as responses_body
from infrs.api.responses.items import Item, ItemReference, new_item_id
from infrs.api.responses.presenter import Keep, ResponsesPresenter
from infrs.api.responses.references import resolve
from infrs.api.responses.request import ResponsesRequest, parse_responses_request, to_chat
from infrs.api.responses.store import StoredResponse
from infrs.errors import RequestError, UnsupportedParameterError
from infrs.http.error_handler import JSON
from infrs.http.respond import Presenter
from infrs.http.routes.chat import answer_chat
from infrs.http.state import context_of, state_of
from infrs.models.loaded import LoadedModel

_MAX_PAGE = 100


async def create_response(request: Request) -> HTTPResponse | None:
    """Answer a conversation, streamed or whole."""
    asked = parse_responses_request(parse_object(request.body))
    earlier = _earlier(request, asked.previous_response_id)
    given = _resolved(request, asked, earlier)
    response_id = new_item_id("resp")
    keep = _keep(request, asked, earlier, given, response_id)

    def make_form(
        body: ChatCompletionRequest, model: LoadedModel, answer_id: str, readers: Sequence[ChoiceReader]
    ) -> Presenter:
        [reader] = readers
        return ResponsesPresenter(asked, answer_id, reader, convert.to_sampling(body, model.sampling), keep)

    chat = to_chat(asked, given, earlier)
    served = state_of(request).require_models().find_chat(chat.model)
    return await answer_chat(request, served, chat, response_id, make_form)


async def get_response(request: Request, response_id: str) -> HTTPResponse:
    """A response that is kept, as it was sent."""
    _refuse_arguments(request)
    return HTTPResponse(_find(request, response_id).body, content_type=JSON)


async def delete_response(request: Request, response_id: str) -> HTTPResponse:
    """Forget a response."""
    _refuse_arguments(request)
    if not state_of(request).responses.delete(context_of(request).tenant, response_id):
        raise _not_found()
    return HTTPResponse(responses_body.deleted(response_id), content_type=JSON)


async def list_input_items(request: Request, response_id: str) -> HTTPResponse:
    """The items that a response was made from, those of the conversation before it included."""
    _refuse_arguments(request, "after", "limit", "order")
    items: list[dict[str, Any]] = orjson.loads(_find(request, response_id).items)
    order, limit, after = (request.args.get(name) for name in ("order", "limit", "after"))
    if order not in (None, "asc", "desc"):
        raise RequestError("order: expected asc or desc", param="order")
    if limit is not None and not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MAX_PAGE):
        raise RequestError(f"limit: expected an integer from 1 to {_MAX_PAGE}", param="limit")
    if order != "asc":
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise RequestError("after: this response has no such item; send the last_id of a page", param="after")
        items = items[ids.index(after) + 1 :]
    size = int(limit or 20)
    return HTTPResponse(responses_body.item_list(items[:size], has_more=len(items) > size), content_type=JSON)


def _earlier(request: Request, previous_response_id: str | None) -> list[dict[str, Any]]:
    """The conversation up to the end of an earlier response. Raises RequestError if it is not there."""
    if previous_response_id is None:
        return []
    previous = state_of(request).responses.get(context_of(request).tenant, previous_response_id)
    if previous is None:
        raise RequestError(
            "previous_response_id: no stored response has this id; it may have made room for others. "
            "Send the whole conversation as input",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return [*orjson.loads(previous.items), *orjson.loads(previous.body)["output"]]


def _resolved(request: Request, asked: ResponsesRequest, earlier: Sequence[dict[str, Any]]) -> list[Item]:
    """Return the items of a request, with those of the client's stored responses that it refers to."""
    state, tenant = state_of(request), context_of(request).tenant
    limit = state.settings.server.max_body_bytes
    return resolve(asked.input, earlier, lambda item_id: state.responses.find_item(tenant, item_id), limit)


def _keep(
    request: Request,
    asked: ResponsesRequest,
    earlier: Sequence[dict[str, Any]],
    given: Sequence[Item],
    response_id: str,
) -> Keep | None:
    """What stores the response, unless the client does not want it, or the server keeps none."""
    store, tenant = state_of(request).responses, context_of(request).tenant
    if asked.store and not store.keeps_any:
        raise UnsupportedParameterError(
            "store: this server keeps no responses; send false, and the whole conversation each time", param="store"
        )
    if asked.store is False or not store.keeps_any:
        return None
    told = [None if isinstance(item, ItemReference) else item.stored() for item in given]
    items = orjson.dumps([*earlier, *filter(None, told)])
    new = [item for item, sent in zip(told, asked.input, strict=True) if item and not isinstance(sent, ItemReference)]

    def keep(ended: dict[str, Any]) -> None:
        own = {item["id"]: orjson.dumps(item) for item in (*new, *ended["output"])}
        store.put(tenant, response_id, StoredResponse(orjson.dumps(ended), items, own))

    return keep


def _find(request: Request, response_id: str) -> StoredResponse:
    state = state_of(request)
    state.require_models()
    found = state.responses.get(context_of(request).tenant, response_id)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> ResponseNotFoundError:
    return ResponseNotFoundError(
        "no stored response has this id; it was never stored, was deleted, or has made room for others",
        param="response_id",
    )


def _refuse_arguments(request: Request, *known: str) -> None:
    """Raise UnsupportedParameterError for an argument in the URL that is not known: none is ignored in silence."""
    for name in request.args:
        if name not in known:
            shown = ascii(name)[1:-1][:64]
            raise UnsupportedParameterError(f"{shown} is not supported on this endpoint; remove it", param=shown)
