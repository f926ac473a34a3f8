"""`POST /v1/chat/completions`: one request from its body to its last byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from sanic import HTTPResponse, Request

from infrs.api.chat.choice import ChoiceReader
from infrs.api.chat.presenter import ChatPresenter
from infrs.api.chat.request import ChatCompletionRequest, Conversation, parse_chat_request
from infrs.api.chat.template_messages import to_messages
from infrs.api.common import convert
from infrs.api.common.strict_json import parse_object
from infrs.core import Grammar
from infrs.engine.sampling.json_schema import check_schema
from infrs.errors import RequestError, UnsupportedParameterError
from infrs.http.respond import Presenter, answer
from infrs.http.state import context_of, state_of
from infrs.models.loaded import LoadedModel
from infrs.models.served import ServedChatModel
from infrs.text import reasoning
from infrs.text.chat.template import encode_chat
from infrs.text.constraint import Constraint
from infrs.text.tools.choose import calls_constraint

_LAST_TOKENS = 16  # of a prompt: enough to see a tag and the space around it


async def chat_completions(request: Request) -> HTTPResponse | None:
    """Answer a chat completion, streamed or whole."""
    body = parse_chat_request(parse_object(request.body))
    served = state_of(request).require_models().find_chat(body.model)
    return await answer_chat(request, served, body, convert.new_id("chatcmpl"), ChatPresenter)


class MakeForm(Protocol):
    """The form in which a route gives the answers of a conversation."""

    def __call__(
        self,
        body: ChatCompletionRequest,
        model: LoadedModel,
        answer_id: str,
        readers: Sequence[ChoiceReader],
    ) -> Presenter:
        """`readers`: one for each answer."""


async def answer_chat(
    request: Request, served: ServedChatModel, body: ChatCompletionRequest, answer_id: str, make_form: MakeForm
) -> HTTPResponse | None:
    """Answer a conversation in the form of a route, streamed or whole."""
    context, model = context_of(request), served.model
    with served.admitted():
        prompt_ids, grammar, opened = await state_of(request).in_thread(lambda: _prepare(model, body), context)
        asked = convert.to_request(
            body,
            request_id=answer_id,
            prompt_ids=prompt_ids,
            limits=model.limits,
            defaults=model.sampling,
            num_logprobs=body.num_logprobs,
            format_stop=model.chat_format.stop,
            prompt_param=body.prompt_param,
            grammar=grammar,
        )
        previous = prompt_ids[-1] if body.continue_final_message else None
        readers = [ChoiceReader(body, model, previous, in_reasoning=opened) for _ in range(body.num_choices)]
        form = make_form(body, model, answer_id, readers)
        return await answer(request, served, [asked], form, stream=bool(body.stream))


def _prepare(model: LoadedModel, body: ChatCompletionRequest) -> tuple[list[int], Grammar | None, bool]:
    """The prompt's ids, what constrains the answer, and whether the prompt ends inside a reasoning block."""
    prompt_ids = chat_prompt(model, body, model.limits.max_model_len)
    end = model.tokenizer.decode(prompt_ids[-_LAST_TOKENS:], skip_special=False)
    opened = model.thinks and reasoning.opens_block(end)
    constraint = _constraint(model, body)
    if constraint is None:
        return prompt_ids, None, opened
    return prompt_ids, model.grammars.compile(replace(constraint, after=reasoning.CLOSE if opened else "")), opened


def _constraint(model: LoadedModel, body: ChatCompletionRequest) -> Constraint | None:
    """What the answer's text must be, by the tools or by the body's own words; where both may be, one or the other."""
    tools = body.callable_tools
    form = body.form
    if not tools or not (body.must_call or form or any(tool.strict for tool in tools)):
        return form
    for tool in tools:
        check_schema(tool.parameters, body.declared_in)
    must_call = body.must_call or form is not None
    calls = calls_constraint(model.tool_format, tools, model.tokenizer, many=body.max_calls is None, required=must_call)
    return replace(calls, or_else=form)


def chat_prompt(model: LoadedModel, body: Conversation, limit: int | None = None) -> list[int]:
    """Ids of the prompt of a conversation; `limit` as `encode_chat` has it. Raises RequestError."""
    variables = template_variables(model, body)
    try:
        return encode_chat(
            model.tokenizer,
            model.chat_format,
            to_messages(body),
            add_generation_prompt=body.prompts_answer,
            continue_final_message=bool(body.continue_final_message),
            variables=variables,
            tools=body.callable_tools,
            limit=limit,
        )
    except RequestError as error:
        raise RequestError(error.message, param=body.prompt_param, code=error.code) from error


def template_variables(model: LoadedModel, body: Conversation) -> dict[str, str | int | float | bool]:
    """Return what the client tells the chat template.

    Raises UnsupportedParameterError for what the model's template does not look at, unless it changes nothing: false,
    `none`, or a `reasoning_effort` for a model that does not think.
    """
    known = model.chat_format.variables
    for name, value in body.variables.items():
        of_body = name == "reasoning_effort" and body.reasoning_effort
        if of_body and not model.thinks:
            continue
        if name not in known and value not in (False, "none"):
            param = body.effort_param if of_body else f"chat_template_kwargs.{name}"
            raise UnsupportedParameterError(
                f"{param}: the chat template of {model.model_id} knows no {name}; remove it", param=param
            )
    return {name: value for name, value in body.variables.items() if name in known}
