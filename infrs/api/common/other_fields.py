"""The fields of other servers that clients send, at the values that have no effect here."""

from __future__ import annotations

from typing import Annotated, Any

from infrs.api.common.fields import HINT, Body, Neutral, Opaque, Unsupported


class OtherFields(Body):
    """Fields that clients of vLLM, SGLang, llama.cpp, Ollama and OpenRouter send, mostly as defaults."""

    # vLLM
    priority: Annotated[Any, Neutral(0)] = None
    skip_special_tokens: Annotated[Any, Neutral(True)] = None
    spaces_between_special_tokens: Annotated[Any, Neutral(True)] = None
    include_stop_str_in_output: Annotated[Any, Neutral(False)] = None
    use_beam_search: Annotated[Any, Neutral(False)] = None
    early_stopping: Annotated[Any, Neutral(False)] = None
    length_penalty: Annotated[Any, Neutral(1)] = None
    include_reasoning: Annotated[Any, Neutral(True)] = None
    return_token_ids: Annotated[Any, Neutral(False)] = None
    return_tokens_as_token_ids: Annotated[Any, Neutral(False)] = None
    allowed_token_ids: Annotated[Any, Neutral([])] = None
    bad_words: Annotated[Any, Neutral([])] = None
    documents: Annotated[Any, Neutral([])] = None
    logits_processors: Annotated[Any, Neutral([])] = None
    vllm_xargs: Annotated[Any, Neutral({})] = None
    mm_processor_kwargs: Annotated[Any, Neutral({})] = None
    structured_outputs: Unsupported = None
    truncate_prompt_tokens: Unsupported = None
    thinking_token_budget: Unsupported = None
    kv_transfer_params: Unsupported = None
    cache_salt: Opaque | None = None
    request_id: Opaque | None = None
    # SGLang
    no_stop_trim: Annotated[Any, Neutral(False)] = None
    separate_reasoning: Annotated[Any, Neutral(True)] = None
    stream_reasoning: Annotated[Any, Neutral(True)] = None
    return_hidden_states: Annotated[Any, Neutral(False)] = None
    return_routed_experts: Annotated[Any, Neutral(False)] = None
    return_cached_tokens_details: Annotated[Any, Neutral(False)] = None
    regex: Unsupported = None
    ebnf: Unsupported = None
    stop_regex: Annotated[Any, Neutral([])] = None
    lora_path: Unsupported = None
    session_params: Unsupported = None
    custom_logit_processor: Unsupported = None
    rid: Opaque | None = None
    # llama.cpp and Ollama
    cache_prompt: Annotated[bool, HINT] | None = None  # the beginning of a prompt is always reused
    id_slot: Annotated[int, HINT] | None = None
    keep_alive: Annotated[str | int, HINT] | None = None  # the model stays loaded
    mirostat: Annotated[Any, Neutral(0)] = None
    dry_multiplier: Annotated[Any, Neutral(0)] = None
    xtc_probability: Annotated[Any, Neutral(0)] = None
    dynatemp_range: Annotated[Any, Neutral(0)] = None
    top_n_sigma: Annotated[Any, Neutral(-1)] = None
    timings_per_token: Annotated[Any, Neutral(False)] = None
    return_progress: Annotated[Any, Neutral(False)] = None
    return_tokens: Annotated[Any, Neutral(False)] = None
    post_sampling_probs: Annotated[Any, Neutral(False)] = None
    # OpenRouter
    top_a: Annotated[Any, Neutral(0)] = None
    transforms: Annotated[Any, Neutral([])] = None
    plugins: Annotated[Any, Neutral([])] = None
    models: Annotated[Any, Neutral([])] = None
    route: Annotated[Any, Neutral("fallback")] = None
    provider: Annotated[Any, Neutral({})] = None
    session_id: Opaque | None = None
