"""Between the wire and the core: the only file that knows both."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TypeVar

from infrs.api.common.fields import Generation
from infrs.core import Grammar, Limits, Request, SamplingParams
from infrs.errors import ContextLengthError, RequestError

T = TypeVar("T")


def new_id(kind: str) -> str:
    """An id for an answer (`chatcmpl`, `cmpl`), which the engine's ids of its requests begin with."""
    return f"{kind}-{secrets.token_hex(12)}"


def to_request(
    body: Generation,
    *,
    request_id: str,
    prompt_ids: Sequence[int],
    limits: Limits,
    defaults: SamplingParams,
    num_logprobs: int | None = None,
    format_stop: tuple[str, ...] = (),
    prompt_param: str = "messages",
    tenant: str = "",
    default_max_tokens: int | None = None,
    grammar: Grammar | None = None,
) -> Request:
    """Make the engine's request. An answer ends at the end of the context at the latest.

    defaults: see `to_sampling`. format_stop: the strings at which the chat format, not the client, ends an answer.
    prompt_param: the field that the prompt came in. default_max_tokens: the bound where the body has none.
    Raises ContextLengthError if the prompt fills the context; RequestError for token ids that the model does not have
    and for a `min_tokens` above the answer's bound.
    """
    _check_token_ids(body, limits.vocab_size)
    room = limits.max_model_len - len(prompt_ids)
    if room <= 0:
        raise ContextLengthError(
            f"the prompt has {len(prompt_ids)} tokens, but the context of this model holds {limits.max_model_len} "
            f"with the answer; shorten {prompt_param}",
            param=prompt_param,
        )
    asked = default_max_tokens if body.max_output_tokens is None else body.max_output_tokens
    max_tokens = room if asked is None else min(asked, room)
    min_tokens = body.min_tokens or 0
    if min_tokens > max_tokens:
        raise RequestError(
            f"min_tokens is {min_tokens}, but the answer has at most {max_tokens} tokens; lower it", param="min_tokens"
        )
    return Request(
        request_id=request_id,
        prompt_ids=tuple(prompt_ids),
        max_tokens=max_tokens,
        sampling=to_sampling(body, defaults),
        stop=tuple(body.stop or ()) + format_stop,
        stop_token_ids=frozenset(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        min_tokens=min_tokens,
        num_choices=body.num_choices,
        num_logprobs=num_logprobs,
        grammar=grammar,
        tenant=tenant,
    )


def to_sampling(body: Generation, defaults: SamplingParams) -> SamplingParams:
    """`defaults`, the model's, where a field is absent. A negative seed is taken modulo 2^64."""
    return SamplingParams(
        temperature=_given(body.temperature, defaults.temperature),
        top_p=_given(body.top_p, defaults.top_p),
        top_k=max(_given(body.top_k, defaults.top_k), 0),
        min_p=_given(body.min_p, defaults.min_p),
        typical_p=_given(body.typical_p, defaults.typical_p),
        presence_penalty=_given(body.presence_penalty, defaults.presence_penalty),
        frequency_penalty=_given(body.frequency_penalty, defaults.frequency_penalty),
        repetition_penalty=_given(body.repetition_penalty, defaults.repetition_penalty),
        logit_bias=tuple((int(token_id), bias) for token_id, bias in (body.logit_bias or {}).items()),
        seed=None if body.seed is None else body.seed % (1 << 64),
    )


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _check_token_ids(body: Generation, vocab_size: int) -> None:
    for param, ids in (
        ("logit_bias", map(int, body.logit_bias or ())),
        ("stop_token_ids", iter(body.stop_token_ids or ())),
    ):
        for token_id in ids:
            check_token_id(token_id, vocab_size, param)


def check_token_id(token_id: int, vocab_size: int, param: str) -> None:
    """Raise RequestError unless the model has such a token."""
    if not 0 <= token_id < vocab_size:
        raise RequestError(f"{param}: the model has no token {token_id}, only 0 to {vocab_size - 1}", param=param)
