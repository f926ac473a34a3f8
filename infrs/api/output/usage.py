"""Token counts and finish reasons on the wire."""

from __future__ import annotations

from infrs.core import FinishReason, Usage


def to_usage(usage: Usage, num_reasoning_tokens: int | None = None) -> dict[str, object]:
    """Token counts as OpenAI names them; prompt tokens whose keys and values were reused count as cached.

    num_reasoning_tokens: None where nothing is known of reasoning.
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
    """Token counts as `/v1/responses` names them."""
    return {
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.num_reused_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.num_output_tokens,
        "output_tokens_details": {"reasoning_tokens": num_reasoning_tokens},
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
    }


def to_finish_reason(reason: FinishReason) -> str:
    """`stop` or `length`; a sequence that was cancelled or failed has an error, not a finish reason, on the wire."""
    if reason not in (FinishReason.STOP, FinishReason.LENGTH):
        raise ValueError(f"{reason} has no finish_reason on the wire")
    return reason.value
