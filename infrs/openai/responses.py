"""Response bodies, as bytes."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


def chat_completion(
    *, completion_id: str, created: int, model: str, text: str, finish_reason: str, usage: Mapping[str, object]
) -> bytes:
    """The body of a chat completion that is not streamed."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return orjson.dumps(
        {
            "id": completion_id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": usage,
        }
    )


def _model(model_id: str, created: int) -> dict[str, object]:
    return {"id": model_id, "object": "model", "created": created, "owned_by": "infrs"}


def model(model_id: str, created: int) -> bytes:
    """One model. created: Unix time in seconds."""
    return orjson.dumps(_model(model_id, created))


def model_list(model_id: str, created: int) -> bytes:
    """The list of models: the one that is served."""
    return orjson.dumps({"object": "list", "data": [_model(model_id, created)]})
