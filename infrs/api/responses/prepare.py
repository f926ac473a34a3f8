"""Preparation of a response. It does not need a server."""

from __future__ import annotations

from infrs.api.chat.prepare import prepare_task
from infrs.api.output.prepared import Prepared
from infrs.api.responses.convert import to_task
from infrs.api.responses.history import StoredConversation
from infrs.api.responses.items import new_item_id
from infrs.api.responses.presenter import ResponsesPresenter
from infrs.core import RequestContext
from infrs.models.loaded import LoadedModel


def prepare(model: LoadedModel, asked: StoredConversation, context: RequestContext) -> Prepared:
    """Prepare a response. Raises RequestError. The presenter stores the response when it ends."""
    response_id = new_item_id("resp")
    task = to_task(asked.body, asked.given, asked.earlier)
    request, [parser] = prepare_task(model, task, response_id, context)
    presenter = ResponsesPresenter(asked.body, response_id, parser, request.sampling, asked.keeper(response_id))
    return Prepared((request,), presenter, task.options.stream)
