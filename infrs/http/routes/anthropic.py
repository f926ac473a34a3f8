"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's way to ask for what a chat completion is."""

from __future__ import annotations

from typing import Any

from sanic import HTTPResponse, Request

from infrs.api.anthropic import message as anthropic_message
from infrs.api.anthropic.presenter import MessagesPresenter
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.anthropic.to_chat import MessagesChat, to_chat
from infrs.api.common.fields import parse_body
from infrs.api.common.strict_json import parse_object
from infrs.errors import RequestError
from infrs.http.routes.chat import answer_chat, chat_prompt
from infrs.http.routes.tokens import answer_text, text_limit
from infrs.http.state import state_of
from infrs.models.loaded import LoadedModel

VERSIONS = (
    "2023-06-01",
    "2026-10-21",
)  # alike here: what the later one took away, `temperature` and so on, is honoured


async def messages(request: Request) -> HTTPResponse | None:
    """Answer a conversation, streamed or whole."""
    check_version(request)
    body = parse_body(MessagesRequest, parse_object(request.body))
    served = state_of(request).require_models().find_chat(body.model)
    chat = _to_chat(body, served.model)
    return await answer_chat(request, served, chat, anthropic_message.new_id(), MessagesPresenter)


async def count_tokens(request: Request) -> HTTPResponse:
    """The tokens of a conversation's prompt, which is not computed."""
    check_version(request)
    body = parse_body(CountTokensRequest, parse_object(request.body))

    def work(model: LoadedModel) -> dict[str, Any]:
        return {"input_tokens": len(chat_prompt(model, _to_chat(body, model), text_limit(model)))}

    return await answer_text(request, body.model, work)


def check_version(request: Request) -> None:
    """Raise RequestError for a version of the API that is not spoken here. A client may name none."""
    version = request.headers.get("anthropic-version", VERSIONS[-1])
    if version not in VERSIONS:
        known = " or ".join(VERSIONS)
        raise RequestError(
            f"anthropic-version: {ascii(version)[:40]} is not spoken here; send {known}", param="anthropic-version"
        )


def _to_chat(body: CountTokensRequest, model: LoadedModel) -> MessagesChat:
    return to_chat(body, variables=model.chat_format.variables, thinks=model.thinks)
