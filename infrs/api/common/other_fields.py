"""The fields of other servers and routers that clients send, accepted where they change no text."""

from __future__ import annotations

from typing import Annotated, Any

from infrs.api.common.fields import (
    HINT,
    AnyHint,
    Body,
    CacheControl,
    Flag,
    Neutral,
    Opaque,
    ServiceTier,
    Unsupported,
    Verbosity,
)


class Hints(Body):
    """Hints of any API and router. They concern caches, billing, tracing, routing, or what an answer shows."""

    # OpenAI and Anthropic
    user: Opaque | None = None
    metadata: AnyHint = None
    client_metadata: AnyHint = None
    safety_identifier: Opaque | None = None
    service_tier: ServiceTier | None = None
    store: Flag | None = None  # only `/v1/responses` stores answers
    verbosity: Verbosity | None = None
    prediction: AnyHint = None
    prompt_cache_key: Opaque | None = None
    prompt_cache_retention: Opaque | None = None
    prompt_cache_options: AnyHint = None
    cache_control: CacheControl | None = None
    context_management: AnyHint = None  # no prompt is truncated
    # vLLM
    priority: Annotated[int, HINT] | None = None
    cache_salt: Opaque | None = None
    request_id: Opaque | None = None
    include_reasoning: Flag | None = None  # reasoning is always shown, and always separate
    # SGLang
    rid: Opaque | None = None
    no_stop_trim: Flag | None = None  # a stop string is never shown
    separate_reasoning: Flag | None = None
    stream_reasoning: Flag | None = None
    return_hidden_states: Flag | None = None
    return_routed_experts: Flag | None = None
    return_cached_tokens_details: Flag | None = None
    # llama.cpp and Ollama
    cache_prompt: Flag | None = None  # the beginning of a prompt is always reused
    id_slot: Annotated[int, HINT] | None = None
    keep_alive: Annotated[str | int | float, HINT] | None = None  # the model stays loaded
    timings_per_token: Flag | None = None
    return_progress: Flag | None = None
    backend_sampling: Flag | None = None  # where tokens are sampled
    sse_ping_interval: Annotated[int, HINT] | None = None
    # LM Studio
    ttl: Annotated[int | float, HINT] | None = None  # the model stays loaded
    draft_model: AnyHint = None  # drafts change no answer
    # Z.ai
    user_id: Opaque | None = None
    tool_stream: Flag | None = None  # a stream has calls as they grow
    # OpenRouter and LiteLLM
    models: AnyHint = None
    route: Opaque | None = None
    provider: AnyHint = None
    session_id: Opaque | None = None
    trace: AnyHint = None
    usage: AnyHint = None  # every answer has its usage
    drop_params: Flag | None = None
    additional_drop_params: AnyHint = None
    allowed_openai_params: AnyHint = None
    litellm_metadata: AnyHint = None


class OtherFields(Hints):
    """Fields that clients of vLLM, SGLang, llama.cpp, Ollama and OpenRouter send, mostly as defaults."""

    # vLLM
    skip_special_tokens: Annotated[Any, Neutral(True)] = None
    spaces_between_special_tokens: Annotated[Any, Neutral(True)] = None
    detokenize: Annotated[Any, Neutral(True)] = None
    include_stop_str_in_output: Unsupported = None
    use_beam_search: Unsupported = None
    early_stopping: Unsupported = None
    length_penalty: Annotated[Any, Neutral(1)] = None
    return_token_ids: Unsupported = None
    return_tokens_as_token_ids: Unsupported = None
    allowed_token_ids: Unsupported = None
    bad_words: Unsupported = None
    documents: Unsupported = None
    logits_processors: Unsupported = None
    vllm_xargs: Unsupported = None
    mm_processor_kwargs: Unsupported = None
    structured_outputs: Unsupported = None
    truncate_prompt_tokens: Annotated[Any, Neutral()] = None  # 0 is a length
    thinking_token_budget: Annotated[Any, Neutral()] = None  # 0 is no thinking
    kv_transfer_params: Unsupported = None
    # SGLang
    regex: Unsupported = None
    ebnf: Unsupported = None
    stop_regex: Unsupported = None
    lora_path: Unsupported = None
    session_params: Unsupported = None
    custom_logit_processor: Unsupported = None
    # llama.cpp and Ollama
    mirostat: Unsupported = None
    mirostat_tau: AnyHint = None  # without effect unless `mirostat` is on; likewise the other parameters of samplers
    mirostat_eta: AnyHint = None
    dry_multiplier: Unsupported = None
    dry_base: AnyHint = None
    dry_allowed_length: AnyHint = None
    dry_penalty_last_n: AnyHint = None
    dry_sequence_breakers: AnyHint = None
    xtc_probability: Unsupported = None
    xtc_threshold: AnyHint = None
    dynatemp_range: Unsupported = None
    dynatemp_exponent: AnyHint = None
    top_n_sigma: Annotated[Any, Neutral(-1, 0)] = None
    tfs_z: Annotated[Any, Neutral(1)] = None
    repeat_penalty: Annotated[Any, Neutral(1)] = None  # here `repetition_penalty`
    return_tokens: Unsupported = None
    post_sampling_probs: Unsupported = None
    lora: Unsupported = None
    min_keep: Unsupported = None
    parse_tool_calls: Annotated[Any, Neutral(True)] = None
    reasoning_in_content: Unsupported = None
    # OpenRouter
    top_a: Unsupported = None
    transforms: Unsupported = None
    plugins: Unsupported = None
    modalities: Annotated[Any, Neutral([], ["text"])] = None
    # Mistral, xAI, Qwen and Hugging Face
    safe_prompt: Unsupported = None
    deferred: Unsupported = None
    enable_search: Unsupported = None
    do_sample: Annotated[Any, Neutral(True)] = None
