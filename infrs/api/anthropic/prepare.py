"""Preparation of Anthropic's messages. It does not need a server."""

from __future__ import annotations

import secrets

from infrs.api.anthropic.convert import to_conversation, to_task
from infrs.api.anthropic.presenter import MessagesPresenter
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.chat.prepare import prepare_task
from infrs.api.chat.prompt import encode_prompt
from infrs.api.output.prepared import Prepared
from infrs.api.tokens.tokenize import text_limit
from infrs.core import RequestContext
from infrs.models.loaded import LoadedModel


def prepare(model: LoadedModel, body: MessagesRequest, context: RequestContext) -> Prepared:
    """Prepare a message. Raises RequestError."""
    answer_id = f"msg_{secrets.token_hex(12)}"
    task = to_task(body, variables=model.chat_format.variables, thinks=model.thinks)
    request, [parser] = prepare_task(model, task, answer_id, context)
    return Prepared((request,), MessagesPresenter(task, model.model_id, answer_id, parser), task.options.stream)


def count_tokens(model: LoadedModel, body: CountTokensRequest) -> dict[str, int]:
    """Return the number of tokens of a prompt. Raises RequestError."""
    conversation = to_conversation(body, variables=model.chat_format.variables, thinks=model.thinks)
    return {"input_tokens": len(encode_prompt(model, conversation, text_limit(model)))}
