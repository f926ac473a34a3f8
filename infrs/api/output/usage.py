"""Token counts and finish reasons on the wire."""

from __future__ import annotations

from infrs.core import FinishReason, Usage


def to_usage(usage: Usage, num_reasoning_tokens: int | None = None) -> dict[str, object]:
    """Return token counts in OpenAI's shape. Prompt tokens with reused keys and values count as cached.

    num_reasoning_tokens: None for a model without reasoning.
    """
    details = {} if num_reasoning_tokens is None else {"reasoning_tokens": num_reasoning_tokens}
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_output_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_reused_tokens},
        **({"completion_tokens_details": details} if details else {}),
    }


def to_response_usage(usage: Usage, num_reasoning_tokens: int) -> dict[str, object]:
    """Return token counts in the shape of `/v1/responses`."""
    return {
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.num_reused_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.num_output_tokens,
        "output_tokens_details": {"reasoning_tokens": num_reasoning_tokens},
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
    }


def to_finish_reason(reason: FinishReason) -> str:
    """Return `stop` or `length`. Raises ValueError for other reasons: a failed answer has an error instead."""
    if reason not in (FinishReason.STOP, FinishReason.LENGTH):
        raise ValueError(f"{reason} has no finish_reason on the wire")
    return reason.value
