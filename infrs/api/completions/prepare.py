"""Preparation of a completion: prompts, grammar, engine requests and presenter. It does not need a server."""

from __future__ import annotations

from dataclasses import replace

from infrs.api.common.engine_request import check_token_id, new_id, to_request
from infrs.api.common.ignored import ignored
from infrs.api.common.text_or_tokens import Text
from infrs.api.completions.presenter import CompletionPresenter, EncodedPrompt
from infrs.api.completions.request import CompletionRequest
from infrs.api.output.prepared import Prepared
from infrs.core import Request, RequestContext
from infrs.errors import ContextLengthError, RequestError, UnsupportedParameterError, prompt_too_long
from infrs.models.loaded import LoadedModel
from infrs.text.infill import infill_marks, infill_prompt
from infrs.text.tokenizer import Tokenizer


def prepare(model: LoadedModel, body: CompletionRequest, context: RequestContext) -> Prepared:
    """Prepare a completion, one engine request per prompt. Raises RequestError."""
    _check_room(model, body)
    answer_id = new_id("cmpl")
    prompts = encode_prompts(model, body, answer_id)
    grammar = None if body.constraint is None else model.grammars.compile(body.constraint)
    options = body.options

    def to_engine(prompt: EncodedPrompt) -> Request:
        request = to_request(
            options,
            request_id=prompt.request_id,
            prompt_ids=prompt.ids,
            limits=model.limits,
            defaults=model.sampling,
            prompt_param="prompt",
            tenant=context.tenant,
            grammar=grammar,
        )
        # Evaluators expect a score of the only token that such a request generates, even if it is the end token.
        scores_end = body.scores_prompt and request.max_tokens == 1 and grammar is None
        return replace(request, prompt_logprobs=body.scores_prompt, ignore_eos=request.ignore_eos or scores_end)

    presenter = CompletionPresenter(body, model, answer_id, prompts)
    return Prepared(tuple(map(to_engine, prompts)), presenter, options.stream, ignored(body))


def encode_prompts(model: LoadedModel, body: CompletionRequest, answer_id: str) -> list[EncodedPrompt]:
    """Return the prompts as token ids. Special tokens in a text count as such: this route has no roles to protect.

    Raises RequestError for token ids outside the vocabulary, UnsupportedParameterError for a suffix if the vocabulary
    has no fill-in-the-middle tokens.
    """
    return [encode_text(model, body.suffix, prompt, f"{answer_id}-{index}") for index, prompt in enumerate(body.prompt)]


def encode_text(model: LoadedModel, suffix: str | None, prompt: Text, request_id: str) -> EncodedPrompt:
    """Return one prompt as token ids. suffix: the text after the answer. Raises as `encode_prompts`."""
    tokenizer, limit = model.tokenizer, model.limits.max_model_len
    if isinstance(prompt, list):
        if len(prompt) > limit:
            raise prompt_too_long(len(prompt), limit, "prompt")
        for token_id in prompt:
            check_token_id(token_id, model.manifest.vocab_size, "prompt")
        return EncodedPrompt(request_id, prompt, tokenizer.decode(prompt, skip_special=False))
    _check_length(tokenizer, prompt, limit, "prompt")
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
    _check_length(tokenizer, suffix, limit, "suffix")
    return EncodedPrompt(request_id, infill_prompt(tokenizer, marks, prompt, suffix), prompt)


def _check_length(tokenizer: Tokenizer, text: str, limit: int, param: str) -> None:
    """Raise ContextLengthError for a text that certainly fills the context."""
    try:
        tokenizer.check_length(text, limit, param)
    except ContextLengthError as error:
        raise prompt_too_long(error.num_tokens or 0, limit, param) from error


def _check_room(model: LoadedModel, body: CompletionRequest) -> None:
    """Raise RequestError for more prompts than the server can ever run and queue together."""
    stats = model.engine.snapshot()
    if len(body.prompt) > 1 and len(body.prompt) * body.num_choices > stats.num_rows + stats.max_queue:
        raise RequestError(
            f"prompt: {len(body.prompt)} prompts with {body.num_choices} answers each are more than the "
            f"{stats.num_rows + stats.max_queue} that this server runs and queues; send fewer at a time",
            param="prompt",
            code="array_above_max_length",
        )
