"""Preparation of Anthropic's messages. It does not need a server."""

from __future__ import annotations

import secrets

from infrs.api.anthropic.convert import ignored_parts, to_conversation, to_task
from infrs.api.anthropic.presenter import MessagesPresenter
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.chat.prepare import prepare_task, relaxed_tools
from infrs.api.chat.prompt import encode_prompt
from infrs.api.common.ignored import ignored
from infrs.api.output.prepared import Prepared
from infrs.api.tokens.tokenize import text_limit
from infrs.core import RequestContext
from infrs.models.loaded import LoadedModel


def prepare(model: LoadedModel, body: MessagesRequest, context: RequestContext) -> Prepared:
    """Prepare a message. Raises RequestError."""
    answer_id = f"msg_{secrets.token_hex(12)}"
    task = to_task(body, variables=model.chat_format.variables, thinks=model.thinks)
    request, [parser] = prepare_task(model, task, answer_id, context)
    presenter = MessagesPresenter(task, model.model_id, answer_id, parser)
    parts = ignored_parts(body, variables=model.chat_format.variables, thinks=model.thinks)
    names = [*ignored(body), *parts, *relaxed_tools(task)]
    return Prepared((request,), presenter, task.options.stream, names)


def count_tokens(model: LoadedModel, body: CountTokensRequest) -> dict[str, int]:
    """Return the number of tokens of a prompt. Raises RequestError."""
    conversation = to_conversation(body, variables=model.chat_format.variables, thinks=model.thinks)
    return {"input_tokens": len(encode_prompt(model, conversation, text_limit(model)))}
