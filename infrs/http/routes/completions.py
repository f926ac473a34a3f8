"""`POST /v1/completions`: a text to be continued."""

from __future__ import annotations

from dataclasses import replace

from sanic import HTTPResponse, Request

from infrs.api.common import convert
from infrs.api.common.strict_json import parse_object
from infrs.api.completions.presenter import CompletionPresenter, EncodedPrompt
from infrs.api.completions.request import DEFAULT_MAX_TOKENS, CompletionRequest, Prompt, parse_completion_request
from infrs.core import Grammar
from infrs.core import Request as EngineRequest
from infrs.errors import RequestError, UnsupportedParameterError
from infrs.http.respond import answer
from infrs.http.state import context_of, state_of
from infrs.models.loaded import LoadedModel
from infrs.text.infill import infill_marks, infill_prompt


async def completions(request: Request) -> HTTPResponse | None:
    """Continue one text or several, streamed or whole."""
    state, context = state_of(request), context_of(request)
    body = parse_completion_request(parse_object(request.body))
    served = state.require_models().find_chat(body.model)
    model = served.model
    _check_room(model, body)
    answer_id = convert.new_id("cmpl")
    with served.admitted():
        prompts, grammar = await state.in_thread(lambda: _prepare(model, body, answer_id), context)
        asked = [_to_request(body, model, prompt, grammar) for prompt in prompts]
        form = CompletionPresenter(body, model, answer_id, prompts)
        return await answer(request, served, asked, form, stream=bool(body.stream))


def _prepare(model: LoadedModel, body: CompletionRequest, answer_id: str) -> tuple[list[EncodedPrompt], Grammar | None]:
    """The prompts as token ids, and what constrains the answers."""
    prompts = encode_prompts(model, body, answer_id)
    return prompts, None if body.constraint is None else model.grammars.compile(body.constraint)


def encode_prompts(model: LoadedModel, body: CompletionRequest, answer_id: str) -> list[EncodedPrompt]:
    """The prompts as token ids. Special tokens in a text are read as such: this route has no roles to protect.

    Raises RequestError for token ids that the model does not have, UnsupportedParameterError for a suffix that its
    vocabulary has no way to tell.
    """
    return [_encode(model, body.suffix, prompt, f"{answer_id}-{index}") for index, prompt in enumerate(body.prompt)]


def _encode(model: LoadedModel, suffix: str | None, prompt: Prompt, request_id: str) -> EncodedPrompt:
    tokenizer, limit = model.tokenizer, model.limits.max_model_len
    if isinstance(prompt, list):
        for token_id in prompt:
            convert.check_token_id(token_id, model.manifest.vocab_size, "prompt")
        shown = prompt if len(prompt) <= limit else []  # a longer one is refused by its length
        return EncodedPrompt(request_id, prompt, tokenizer.decode(shown, skip_special=False))
    tokenizer.check_length(prompt, limit, "prompt")
    if suffix is None:
        ids = tokenizer.encode(prompt, special=True)
        if not ids:
            raise RequestError("prompt: the text has no token of this model; send another", param="prompt")
        return EncodedPrompt(request_id, ids, prompt)
    marks = infill_marks(tokenizer)
    if marks is None:
        raise UnsupportedParameterError(
            f"suffix: the vocabulary of {model.model_id} has no fill-in-the-middle tokens; remove it", param="suffix"
        )
    tokenizer.check_length(suffix, limit, "suffix")
    return EncodedPrompt(request_id, infill_prompt(tokenizer, marks, prompt, suffix), prompt)


def _to_request(
    body: CompletionRequest, model: LoadedModel, prompt: EncodedPrompt, grammar: Grammar | None
) -> EngineRequest:
    ranks = body.num_choices > (body.n or 1)
    asked = convert.to_request(
        body,
        request_id=prompt.request_id,
        prompt_ids=prompt.ids,
        limits=model.limits,
        defaults=model.sampling,
        num_logprobs=0 if ranks and body.logprobs is None else body.logprobs,
        prompt_param="prompt",
        default_max_tokens=DEFAULT_MAX_TOKENS,
        grammar=grammar,
    )
    # The one token that such a request makes is scored even if it is the end: evaluators count on as many scores.
    scores_end = body.scores_prompt and asked.max_tokens == 1 and grammar is None
    ignore_eos = asked.ignore_eos or scores_end
    return replace(asked, prompt_logprobs=body.scores_prompt, ignore_eos=ignore_eos)


def _check_room(model: LoadedModel, body: CompletionRequest) -> None:
    """Refuse for good what could never be queued as a whole."""
    stats = model.engine.snapshot()
    if len(body.prompt) > 1 and len(body.prompt) * body.num_choices > stats.num_rows + stats.max_queue:
        raise RequestError(
            f"prompt: {len(body.prompt)} prompts with {body.num_choices} answers each are more than the "
            f"{stats.num_rows + stats.max_queue} that this server runs and queues; send fewer at a time",
            param="prompt",
            code="array_above_max_length",
        )
