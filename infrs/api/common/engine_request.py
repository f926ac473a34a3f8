"""Conversion of generation options to the engine's request. No other module of `api.common` imports the core."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from infrs.api.common.conversation import GenerationOptions
from infrs.core import Grammar, Limits, Request, SamplingParams
from infrs.errors import RequestError, prompt_too_long


def new_id(kind: str) -> str:
    """Return a random id for an answer, such as `chatcmpl-...` for the kind `chatcmpl`."""
    return f"{kind}-{secrets.token_hex(12)}"


def to_request(
    options: GenerationOptions,
    *,
    request_id: str,
    prompt_ids: Sequence[int],
    limits: Limits,
    defaults: SamplingParams,
    format_stop: tuple[str, ...] = (),
    prompt_param: str = "messages",
    tenant: str,
    grammar: Grammar | None = None,
) -> Request:
    """Return the engine's request. The end of the context bounds the answer.

    defaults: the model's sampling parameters. format_stop: the strings at which the chat format ends an answer.
    prompt_param: the request field that holds the prompt.
    Raises ContextLengthError if the prompt fills the context, and RequestError for token ids outside the vocabulary or
    a `min_tokens` above the bound of the answer.
    """
    sampling = replace(defaults, **options.sampling)
    for param, ids in (
        ("logit_bias", (token_id for token_id, _ in sampling.logit_bias)),
        ("stop_token_ids", options.stop_token_ids),
    ):
        for token_id in ids:
            check_token_id(token_id, limits.vocab_size, param)
    room = limits.max_model_len - len(prompt_ids)
    if room <= 0:
        raise prompt_too_long(len(prompt_ids), limits.max_model_len, prompt_param)
    max_tokens = room if options.max_tokens is None else min(options.max_tokens, room)
    if options.min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens is {options.min_tokens}, but the answer has at most {max_tokens} tokens; lower it",
            param="min_tokens",
        )
    return Request(
        request_id=request_id,
        prompt_ids=tuple(prompt_ids),
        max_tokens=max_tokens,
        sampling=sampling,
        stop=options.stop + format_stop,
        stop_token_ids=frozenset(options.stop_token_ids),
        ignore_eos=options.ignore_eos,
        min_tokens=options.min_tokens,
        num_choices=options.num_choices,
        num_logprobs=options.num_logprobs,
        grammar=grammar,
        tenant=tenant,
    )


def check_token_id(token_id: int, vocab_size: int, param: str) -> None:
    """Raise RequestError, which names `param`, for a token id outside the vocabulary."""
    if not 0 <= token_id < vocab_size:
        raise RequestError(f"{param}: the model has no token {token_id}, only 0 to {vocab_size - 1}", param=param)
