"""`/tokenize`, `/detokenize` and `/apply-template`: text and tokens, without the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from sanic import HTTPResponse, Request

from infrs.api.common import convert
from infrs.api.common.fields import parse_body
from infrs.api.common.strict_json import parse_object
from infrs.api.tokens.request import ApplyTemplateRequest, DetokenizeRequest, TokenizeRequest, parse_tokenize_request
from infrs.errors import ContextLengthError
from infrs.http.error_handler import JSON
from infrs.http.routes.chat import chat_prompt
from infrs.http.state import context_of, state_of
from infrs.models.loaded import LoadedModel

_SHORTEST_LIMIT = 1 << 16  # tokens; documents are counted and cut for models of any context
_CONTEXTS = 4  # a client counts a prompt to see how far it is too long


def text_limit(model: LoadedModel) -> int:
    """Most tokens of a text that is tokenised or detokenised only to be shown or counted."""
    return max(_SHORTEST_LIMIT, _CONTEXTS * model.max_model_len)


async def tokenize(request: Request) -> HTTPResponse:
    """Ids of a text, or of a conversation's prompt."""
    body = parse_tokenize_request(parse_object(request.body))

    def work(model: LoadedModel) -> dict[str, Any]:
        if isinstance(body, TokenizeRequest):
            model.tokenizer.check_length(body.text, text_limit(model), body.text_param)
            ids = model.tokenizer.encode(body.text, special=body.special)
        else:
            ids = chat_prompt(model, body, text_limit(model))
        answer = {"tokens": ids, "count": len(ids), "max_model_len": model.limits.max_model_len}
        return {**answer, "token_strs": [*map(model.token_bytes.spelling, ids)]} if body.return_token_strs else answer

    return await answer_text(request, body.model, work)


async def detokenize(request: Request) -> HTTPResponse:
    """The text of ids, with U+FFFD where they end inside a character; under vLLM's name and under llama.cpp's."""
    body = parse_body(DetokenizeRequest, parse_object(request.body))

    def work(model: LoadedModel) -> dict[str, Any]:
        if len(body.tokens) > text_limit(model):
            raise ContextLengthError(
                f"tokens has {len(body.tokens)} elements, but at most {text_limit(model)} are allowed; shorten tokens",
                param="tokens",
            )
        for token_id in body.tokens:
            convert.check_token_id(token_id, model.manifest.vocab_size, "tokens")
        text = model.tokenizer.decode(body.tokens, skip_special=bool(body.skip_special_tokens))
        return {"prompt": text, "content": text}

    return await answer_text(request, body.model, work)


async def apply_template(request: Request) -> HTTPResponse:
    """The prompt of a conversation, read back from its tokens: what the model would see."""
    body = parse_body(ApplyTemplateRequest, parse_object(request.body))

    def work(model: LoadedModel) -> dict[str, Any]:
        ids = chat_prompt(model, body, text_limit(model))
        return {"prompt": model.tokenizer.decode(ids, skip_special=False)}

    return await answer_text(request, body.model, work)


async def answer_text(
    request: Request, model_id: str | None, work: Callable[[LoadedModel], dict[str, Any]]
) -> HTTPResponse:
    """Do the work off the event loop, as one of the requests that this server takes at a time."""
    state = state_of(request)
    served = state.require_models().find_chat(model_id)
    with served.admitted():
        answer = await state.in_thread(lambda: orjson.dumps(work(served.model)), context_of(request))
        return HTTPResponse(answer, content_type=JSON)
