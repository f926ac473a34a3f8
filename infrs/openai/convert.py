"""Between the wire and the core: the only file that knows both."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from infrs.core import FinishReason, Request, SamplingParams, Usage
from infrs.errors import ContextLengthError
from infrs.openai.requests import ChatCompletionRequest


def new_completion_id() -> str:
    """An id for a completion, which is also the engine's id of the request."""
    return "chatcmpl-" + secrets.token_hex(12)


def to_messages(body: ChatCompletionRequest) -> list[dict[str, str]]:
    """The conversation as chat templates take it. `developer` is OpenAI's newer name of `system`."""
    return [
        {"role": "system" if message.role == "developer" else message.role, "content": message.text}
        for message in body.messages
    ]


def to_request(
    body: ChatCompletionRequest,
    *,
    request_id: str,
    prompt_ids: Sequence[int],
    max_model_len: int,
    format_stop: tuple[str, ...] = (),
) -> Request:
    """What the engine is asked. Without a bound of its own, an answer may go on to the end of the context.

    format_stop: the strings at which the chat format, not the client, ends an answer.
    Raises ContextLengthError where the prompt, or the prompt and the answer, exceed max_model_len tokens.
    """
    room = max_model_len - len(prompt_ids)
    asked = body.max_output_tokens
    if room <= 0:
        raise ContextLengthError(
            f"the prompt has {len(prompt_ids)} tokens, but the context of this model holds {max_model_len} with the "
            "answer; shorten the messages",
            param="messages",
        )
    if asked is not None and asked > room:
        raise ContextLengthError(
            f"the prompt has {len(prompt_ids)} tokens and the answer may have {asked}, but the context of this model "
            f"holds {max_model_len}; shorten the messages or ask for at most {room} tokens",
            param="messages",
        )
    return Request(
        request_id=request_id,
        prompt_ids=tuple(prompt_ids),
        max_tokens=room if asked is None else asked,
        sampling=to_sampling(body),
        stop=tuple(body.stop or ()) + format_stop,
        ignore_eos=bool(body.ignore_eos),
    )


def to_sampling(body: ChatCompletionRequest) -> SamplingParams:
    """OpenAI's defaults where a field is absent. A negative seed is taken modulo 2^64."""
    return SamplingParams(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(body.top_k or 0, 0),
        min_p=body.min_p or 0.0,
        seed=None if body.seed is None else body.seed % (1 << 64),
    )


def to_usage(usage: Usage) -> dict[str, object]:
    """Token counts as OpenAI names them; prompt tokens whose keys and values were reused count as cached."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_output_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_reused_tokens},
    }


def to_finish_reason(reason: FinishReason) -> str:
    """`stop` or `length`; a sequence that was cancelled or failed has an error, not a finish reason, on the wire."""
    if reason not in (FinishReason.STOP, FinishReason.LENGTH):
        raise ValueError(f"{reason} has no finish_reason on the wire")
    return reason.value
