"""Preparation of Ollama's requests for answers. It does not need a server."""

from __future__ import annotations

from typing import Any

from infrs.api.chat.prepare import prepare_task, relaxed_tools
from infrs.api.common.conversation import ChatTask
from infrs.api.common.engine_request import new_id, to_request
from infrs.api.common.ignored import ignored
from infrs.api.completions.prepare import encode_text
from infrs.api.ollama.convert import ignored_thinking, to_chat_task, to_constraint, to_options, to_prompt_task
from infrs.api.ollama.presenter import Durations, OllamaPresenter
from infrs.api.ollama.request import AnswerRequest, OllamaChatRequest, OllamaGenerateRequest
from infrs.api.output.continuation import Continuation
from infrs.api.output.logprobs import TokenStream, chat_logprobs
from infrs.api.output.prepared import Prepared
from infrs.core import Delta, FinishReason, RequestContext
from infrs.models.loaded import LoadedModel
from infrs.text.tools.events import Content, Event


class PlainParser:
    """Parses the deltas of an answer that is plain text: it has neither reasoning nor calls."""

    def __init__(self, model: LoadedModel, previous: int, *, has_logprobs: bool) -> None:
        """`previous`: the last token of the prompt."""
        self.finish_reason: FinishReason | None = None
        self._continuation = Continuation(model.token_bytes, previous)
        self._tokens = TokenStream(model.token_bytes, previous=previous) if has_logprobs else None

    def feed(self, delta: Delta) -> tuple[list[Event], list[dict[str, Any]] | None]:
        """See ChoiceParser."""
        self.finish_reason = delta.finish_reason
        text = self._continuation.feed(delta)
        logprobs = None if self._tokens is None else chat_logprobs(delta.logprobs, self._tokens)
        return [Content(text)] * bool(text), logprobs


def prepare_chat(model: LoadedModel, body: OllamaChatRequest, context: RequestContext) -> Prepared:
    """Prepare the answer to a conversation. Raises RequestError."""
    task = to_chat_task(body, variables=model.chat_format.variables, thinks=model.thinks)
    return _prepared(model, body, task, context, is_chat=True)


def prepare_generate(model: LoadedModel, body: OllamaGenerateRequest, context: RequestContext) -> Prepared:
    """Prepare the answer to a prompt: of a chat template, or as plain text. Raises RequestError."""
    if not body.is_plain:
        task = to_prompt_task(body, variables=model.chat_format.variables, thinks=model.thinks)
        return _prepared(model, body, task, context, is_chat=False)
    options, constraint = to_options(body), to_constraint(body)
    request_id = new_id("ollama")
    prompt = encode_text(model, body.suffix, body.prompt or "", request_id)
    request = to_request(
        options,
        request_id=request_id,
        prompt_ids=prompt.ids,
        limits=model.limits,
        defaults=model.sampling,
        prompt_param="prompt",
        tenant=context.tenant,
        grammar=None if constraint is None else model.grammars.compile(constraint),
    )
    parser = PlainParser(model, prompt.ids[-1], has_logprobs=options.num_logprobs is not None)
    durations = Durations.of(context)
    presenter = OllamaPresenter(body.model, parser, durations, is_chat=False)
    return Prepared((request,), presenter, options.stream, ignored(body), durations.observe)


def _prepared(
    model: LoadedModel, body: AnswerRequest, task: ChatTask, context: RequestContext, *, is_chat: bool
) -> Prepared:
    request, [parser] = prepare_task(model, task, new_id("ollama"), context)
    durations = Durations.of(context)
    presenter = OllamaPresenter(body.model, parser, durations, is_chat=is_chat)
    thinking = ignored_thinking(body, variables=model.chat_format.variables)
    names = [*ignored(body), *thinking, *relaxed_tools(task)]
    return Prepared((request,), presenter, task.options.stream, names, durations.observe)
