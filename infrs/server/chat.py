"""`POST /v1/chat/completions`: one request from its body to its last byte."""

from __future__ import annotations

from sanic import HTTPResponse, Request

from infrs.errors import ModelNotFoundError, UnsupportedParameterError
from infrs.openai import convert
from infrs.openai.json import parse_object
from infrs.openai.requests import ChatCompletionRequest, Conversation, parse_chat_request
from infrs.server.answer import answer
from infrs.server.chat_answer import ChatAnswer
from infrs.server.state import ServedModel, state_of
from infrs.text.chat_template import encode_chat


async def chat_completions(request: Request) -> HTTPResponse | None:
    """Answer a chat completion, streamed or whole."""
    # A body of 64 KiB or more leaves Sanic's reading paused, and a client that then leaves unseen.
    request.transport.resume_reading()  # type: ignore[attr-defined]  # a TCP transport
    state = state_of(request)
    model, _ = state.require()
    body = parse_chat_request(parse_object(request.body))
    check_model(model, body.model)
    answer_id = convert.new_id("chatcmpl")
    with state.admitted():
        prompt_ids = await state.in_thread(lambda: chat_prompt(model, body))
        asked = convert.to_request(
            body,
            request_id=answer_id,
            prompt_ids=prompt_ids,
            limits=model.limits,
            num_logprobs=body.num_logprobs,
            format_stop=model.chat_format.stop,
            tenant=getattr(request.ctx, "tenant", ""),
        )
        previous = prompt_ids[-1] if body.continue_final_message else None
        return await answer(request, [asked], ChatAnswer(body, model, answer_id, previous), stream=bool(body.stream))


def chat_prompt(model: ServedModel, body: Conversation) -> list[int]:
    """Ids of the prompt of a conversation. Raises RequestError."""
    return encode_chat(
        model.tokenizer,
        model.chat_format,
        convert.to_messages(body),
        add_generation_prompt=body.prompts_answer,
        continue_final_message=bool(body.continue_final_message),
        variables=template_variables(model, body),
    )


def template_variables(model: ServedModel, body: Conversation) -> dict[str, str | int | float | bool]:
    """What the client tells the chat template.

    Raises UnsupportedParameterError for what the model's template does not look at, unless it asks for nothing.
    """
    known = model.chat_format.variables
    for name, value in body.variables.items():
        if name not in known and value not in (False, "none"):
            of_body = isinstance(body, ChatCompletionRequest) and name == "reasoning_effort" and body.reasoning_effort
            param = name if of_body else f"chat_template_kwargs.{name}"
            raise UnsupportedParameterError(
                f"{param}: the chat template of {model.model_id} knows no {name}; remove it", param=param
            )
    return {name: value for name, value in body.variables.items() if name in known}


def check_model(model: ServedModel, model_id: str) -> None:
    """Raise ModelNotFoundError unless `model_id` is the one that is served."""
    if model_id != model.model_id:
        shown = ascii(model_id[:100])
        raise ModelNotFoundError(f"{shown} is not served here; this server serves {model.model_id}", param="model")
