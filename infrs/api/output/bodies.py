"""Response bodies, as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson


def head(
    kind: str, *, answer_id: str, created: int, model: str, fingerprint: str, service_tier: str | None = None
) -> dict[str, object]:
    """Return the fields that each body and each chunk starts with. created: Unix time in seconds.

    kind: `chat.completion`, `chat.completion.chunk` or `text_completion`. service_tier: what the client
    asks for; None leaves the field out.
    """
    common = {
        "id": answer_id,
        "object": kind,
        "created": created,
        "model": model,
        "system_fingerprint": fingerprint,
    }
    return common if service_tier is None else {**common, "service_tier": "default"}


def chat_choice(
    index: int, message: Mapping[str, object], finish_reason: str, logprobs: Sequence[object] | None = None
) -> dict[str, object]:
    """Return one choice of a chat completion. logprobs: the entries of `logprobs.content`."""
    return {
        "index": index,
        "message": message,
        "logprobs": None if logprobs is None else {"content": logprobs, "refusal": None},
        "finish_reason": finish_reason,
    }


def completion(
    head: Mapping[str, object], choices: Sequence[Mapping[str, object]], usage: Mapping[str, object]
) -> bytes:
    """Return the body of an answer that is not streamed."""
    return orjson.dumps({**head, "choices": choices, "usage": usage})


def model(model_id: str, created: int, max_model_len: int | None) -> dict[str, object]:
    """Return one model.

    created: Unix time in seconds. max_model_len: tokens of prompt and answer, as in vLLM; None if that is not known.
    """
    head: dict[str, object] = {"id": model_id, "object": "model", "created": created, "owned_by": "infrs"}
    return head if max_model_len is None else head | {"max_model_len": max_model_len}


def model_list(models: Sequence[Mapping[str, object]]) -> bytes:
    """Return the list of models."""
    return orjson.dumps({"object": "list", "data": models})
