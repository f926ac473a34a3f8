"""Preparation of a response. It does not need a server."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from infrs.api.chat.prepare import prepare_task, relaxed_tools
from infrs.api.chat.prompt import encode_prompt, ignored_variables
from infrs.api.common.ignored import ignored
from infrs.api.output.prepared import Prepared
from infrs.api.responses.convert import to_task
from infrs.api.responses.history import StoredConversation
from infrs.api.responses.items import new_item_id
from infrs.api.responses.presenter import EVENT_STREAM, Facts, Framing, ResponsesPresenter, WarmUpPresenter
from infrs.api.responses.request import ResponsesRequest
from infrs.api.tokens.tokenize import text_limit
from infrs.core import Request, RequestContext
from infrs.errors import RequestError
from infrs.models.loaded import LoadedModel


def prepare(
    model: LoadedModel, asked: StoredConversation, context: RequestContext, framing: Framing = EVENT_STREAM
) -> Prepared:
    """Prepare a response. Raises RequestError. The presenter stores the response when it ends."""
    response_id, history = new_item_id("resp"), asked.read()
    task = to_task(asked.body, history.given, history.earlier)
    request, [parser] = prepare_task(model, task, response_id, context)
    facts = Facts(asked.body, response_id, request.sampling, history.keeper(response_id), asked.is_stored, framing)
    names = [*ignored_of(asked.body), *ignored_variables(model, task.conversation), *relaxed_tools(task)]
    return Prepared((request,), ResponsesPresenter(facts, parser), task.options.stream, names)


def prepare_warm_up(
    model: LoadedModel, asked: StoredConversation, context: RequestContext, framing: Framing
) -> Prepared:
    """Prepare the prompt of a request that asks for no answer. Raises RequestError for unknown items.

    The engine computes it and one token, which is dropped. A prompt that cannot be rendered yet, such as one without a
    message of the user, is not computed.
    """
    response_id, history = new_item_id("resp"), asked.read()
    requests: tuple[Request, ...] = ()
    sampling = model.sampling
    with suppress(RequestError):
        task = to_task(asked.body, history.given, history.earlier)
        task = replace(task, options=replace(task.options, max_tokens=1))
        request, _ = prepare_task(model, task, response_id, context)
        requests, sampling = (request,), request.sampling
    facts = Facts(asked.body, response_id, sampling, history.keeper(response_id), asked.is_stored, framing)
    return Prepared(requests, WarmUpPresenter(facts), stream=True)


def count_input_tokens(model: LoadedModel, asked: StoredConversation) -> dict[str, Any]:
    """Return the number of tokens of a prompt. Raises RequestError."""
    history = asked.read()
    conversation = to_task(asked.body, history.given, history.earlier).conversation
    num_tokens = len(encode_prompt(model, conversation, text_limit(model)))
    return {"object": "response.input_tokens", "input_tokens": num_tokens}


def ignored_of(body: ResponsesRequest) -> list[str]:
    """Return the names of the hints and of the dropped tools."""
    return [*ignored(body), *body.dropped]
