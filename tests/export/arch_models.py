"""Tiny models with random weights, one for each architecture and variant that the fused graph covers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from hybrid_models import HYBRID_MIXTURES, RECURRENT
from latent_models import LATENT, LATENT_MIXTURES
from tiny_config import EXPERTS, GROUPS, LOCAL, SCALES, SIZES
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCAB = 97
CONTEXT = 128

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    **SIZES,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
_LLAMA4 = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.3,
}
_LOCAL_GLOBAL = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
_GEMMA_2 = {
    **_LOCAL_GLOBAL,
    "head_dim": 32,
    "sliding_window": 7,
    "query_pre_attn_scalar": 24,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 3.0,
    "tie_word_embeddings": True,
}
_GEMMA_3N = {
    "num_hidden_layers": 5,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "num_kv_shared_layers": 2,
    "sliding_window": 7,
    "head_dim": 32,
    "intermediate_size": [96] * 5,
    "activation_sparsity_pattern": [0.95, 0.6, 0.0, 0.0, 0.0],
    "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": VOCAB,
    "laurel_rank": 16,
    "altup_num_inputs": 3,
    "altup_active_idx": 0,
    "final_logit_softcapping": 3.0,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    },
    "tie_word_embeddings": True,
}
_GEMMA_4 = {
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "sliding_window": 7,
    "head_dim": 16,
    "global_head_dim": 32,
    "vocab_size_per_layer_input": VOCAB,
    "final_logit_softcapping": 3.0,
    "tie_word_embeddings": True,
}
_LONGROPE = {"type": "longrope", "short_factor": [1.0 + i / 8 for i in range(8)], "long_factor": [4.0] * 8}


# name -> (model_type, what its config changes)
FUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-llama3": ("llama", {"rope_scaling": _LLAMA3, "head_dim": 32}),
    "llama-linear": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "llama-dynamic": ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "llama-bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-stray-keys": ("llama", {"sliding_window": 7, "clip_qkv": 0.1, "attn_logit_softcapping": 1.0}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 7}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    "qwen2-yarn": ("qwen2", {"rope_scaling": _YARN}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "gemma": ("gemma", {"head_dim": 32, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", _GEMMA_2),
    "gemma3": (
        "gemma3_text",
        {
            **_LOCAL_GLOBAL,
            "head_dim": 32,
            "sliding_window": 7,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 5.0,  # in the config, unused by the model
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "tie_word_embeddings": True,
        },
    ),
    "phi3": ("phi3", {"sliding_window": None}),
    "phi3-window": ("phi3", {"sliding_window": 7}),
    "phi3-partial": (
        "phi3",
        {"num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 128, "partial_rotary_factor": 0.75},
    ),
    "phi3-longrope": ("phi3", {"rope_scaling": _LONGROPE, "original_max_position_embeddings": 64}),
    "granite": ("granite", SCALES),
    "olmo": ("olmo", {"clip_qkv": 0.2}),
    "olmo2": ("olmo2", {}),
    "smollm3": ("smollm3", {"num_hidden_layers": 4, "no_rope_layer_interval": 2}),
    "arcee": ("arcee", {}),
    "ernie4_5": ("ernie4_5", {"use_bias": True}),
    "falcon": ("falcon", {"multi_query": True, "alibi": False}),
    "falcon-separate": ("falcon", {"multi_query": False, "parallel_attn": False, "bias": True}),
    "falcon-groups": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-one-norm": (
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "glm": ("glm", {"head_dim": 32, "partial_rotary_factor": 0.5, "attention_bias": True}),
    "glm4": ("glm4", {"head_dim": 32, "partial_rotary_factor": 0.5}),
    "helium": ("helium", {"head_dim": 16}),
    "starcoder2": ("starcoder2", {"sliding_window": None}),
    "starcoder2-window": ("starcoder2", {"sliding_window": 7}),
    "gpt2": ("gpt2", {"activation_function": "gelu_new"}),
    "gpt_neox": ("gpt_neox", {"hidden_size": 128, "rotary_pct": 0.5}),
    "gpt_neox-serial": ("gpt_neox", {"rotary_pct": 1.0, "use_parallel_residual": False, "attention_bias": False}),
    "gpt2-scaled": ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"}),
    "apertus": ("apertus", {}),
    "cohere": ("cohere", {"logit_scale": 0.3}),
    "cohere-norms": ("cohere", {"logit_scale": 0.3, "use_qk_norm": True}),
    "cohere2": ("cohere2", {**_LOCAL_GLOBAL, "sliding_window": 7, "logit_scale": 0.3}),
    "cwm": ("cwm", {**_LOCAL_GLOBAL, "sliding_window": 7, "rope_scaling": _LLAMA3}),
    "exaone": ("exaone", {"rope_scaling": _LLAMA3}),
    "exaone4": ("exaone4", {**_LOCAL_GLOBAL, "sliding_window": 7, "head_dim": 32}),
    "gemma3n": ("gemma3n_text", _GEMMA_3N),
    "gemma4": ("gemma4_text", {**_GEMMA_4, "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 3}),
    "gemma4-wide": (
        "gemma4_text",
        {**_GEMMA_4, "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 3, "use_double_wide_mlp": True},
    ),
    "gemma4-keys-are-values": (
        "gemma4_text",
        {
            **_GEMMA_4,
            "hidden_size_per_layer_input": 0,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
        },
    ),
    "hyperclovax": ("hyperclovax", SCALES),
    "hyperclovax-norms": ("hyperclovax", {**SCALES, "use_post_norm": True}),
    "internlm3": ("internlm3", {"head_dim": 32}),
    "iquestcoder": ("iquestcoder", {"head_dim": 32}),
    "jais2": ("jais2", {"attention_bias": True, "mlp_bias": True}),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", {"head_dim": 32}),
    "ministral": ("ministral", {**_LOCAL_GLOBAL, "sliding_window": 7, "head_dim": 32}),
    "ministral3": ("ministral3", {"head_dim": 32, "sliding_window": 7}),
    "ministral3-scaled": ("ministral3", {"head_dim": 32, "sliding_window": None, "rope_parameters": _LLAMA4}),
    "nemotron": ("nemotron", {"head_dim": 32, "partial_rotary_factor": 0.5}),
    "olmo3": ("olmo3", {**_LOCAL_GLOBAL, "sliding_window": 7}),
    "olmo3-yarn": ("olmo3", {**_LOCAL_GLOBAL, "sliding_window": 7, "rope_scaling": _YARN}),
    "phi": ("phi", {"hidden_size": 128, "partial_rotary_factor": 0.5}),
    "phi-norms": ("phi", {"hidden_size": 128, "partial_rotary_factor": 0.5, "qk_layernorm": True}),
    "seed_oss": ("seed_oss", {"head_dim": 32, "attention_bias": True, "attention_out_bias": True}),
    "stablelm": ("stablelm", {"hidden_size": 256, "partial_rotary_factor": 0.25}),
    "stablelm-norms": ("stablelm", {"qk_layernorm": True, "partial_rotary_factor": 1.0, "use_qkv_bias": True}),
    "stablelm-parallel": ("stablelm", {"use_parallel_residual": True, "partial_rotary_factor": 1.0}),
    "vaultgemma": ("vaultgemma", _GEMMA_2),
}

FUSED |= LATENT

# Mixtures of experts: name -> (model_type, what its config changes)
_WHOLE = {"num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 32}
_GROUPS = {**GROUPS, "head_dim": 32}
MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    **LATENT_MIXTURES,
    "afmoe": ("afmoe", {**EXPERTS, "head_dim": 32, "sliding_window": 7}),
    "dots1": ("dots1", {**_GROUPS, "first_k_dense_replace": 1}),
    "ernie4_5_moe": (
        "ernie4_5_moe",
        {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 32, "moe_layer_start_index": 1, "use_bias": True},
    ),
    "exaone_moe": ("exaone_moe", {**EXPERTS, "head_dim": 32, "sliding_window": 7}),
    "flex_olmo": ("flex_olmo", _WHOLE),
    "gemma4-experts": (
        "gemma4_text",
        {
            **_GEMMA_4,
            "hidden_size_per_layer_input": 0,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "enable_moe_block": True,
            "num_experts": 8,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        },
    ),
    "glm4_moe": (
        "glm4_moe",
        {**_GROUPS, "first_k_dense_replace": 1, "partial_rotary_factor": 0.5, "use_qk_norm": True},
    ),
    "gpt_oss": ("gpt_oss", {**LOCAL, "head_dim": 32, "sliding_window": 7}),
    "granitemoe": ("granitemoe", {**LOCAL, **SCALES}),
    "granitemoeshared": ("granitemoeshared", {**LOCAL, **SCALES, "shared_intermediate_size": 48}),
    "hy_v3": ("hy_v3", {**EXPERTS, "head_dim": 32, "mlp_layer_types": ["dense", "sparse"]}),
    "hunyuan_v1_moe": (
        "hunyuan_v1_moe",
        {"num_experts": 8, "moe_topk": 2, "intermediate_size": 32, "head_dim": 32},
    ),
    "mellum": (
        "mellum",
        {
            **EXPERTS,
            **_LOCAL_GLOBAL,
            "head_dim": 32,
            "sliding_window": 7,
            "rope_parameters": {
                "full_attention": {**_YARN, "rope_theta": 5e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "minimax_m2": ("minimax_m2", {**LOCAL, "head_dim": 32, "rotary_dim": 16}),
    "mixtral": ("mixtral", {**LOCAL, "sliding_window": 7}),
    "olmoe": ("olmoe", {**_WHOLE, "clip_qkv": 0.2}),
    "phimoe": ("phimoe", {**LOCAL, "attention_bias": True, "lm_head_bias": True}),
    "qwen2_moe": ("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 64}),
    "qwen3_moe": ("qwen3_moe", {**EXPERTS, "head_dim": 32}),
    "qwen3_moe-mixed": ("qwen3_moe", {**EXPERTS, "head_dim": 32, "norm_topk_prob": True, "mlp_only_layers": [0]}),
    "solar_open": ("solar_open", _GROUPS),
}
FUSED |= MIXTURES
MIXTURES |= HYBRID_MIXTURES
FUSED |= RECURRENT
FUSED["granitemoehybrid-attention"] = (
    "granitemoehybrid",
    {
        **SCALES,
        "layer_types": ["full_attention"] * 2,
        "num_local_experts": 0,
        "shared_intermediate_size": 96,
        "position_embedding_type": "rope",
    },
)

# name -> (model_type, what its config changes, what the reason says)
PLAIN: dict[str, tuple[str, dict[str, Any], str]] = {
    "bloom": ("bloom", {}, "bloom"),
    "falcon-alibi": ("falcon", {"alibi": True}, "ALiBi"),
    "gpt_neox-narrow": ("gpt_neox", {"rotary_pct": 0.5}, "rotary width of 8"),
    "llama-narrow": ("llama", {"head_dim": 8}, "rotary width of 8"),
    "phi3-narrow": ("phi3", {"head_dim": 32, "hidden_size": 128, "partial_rotary_factor": 0.75}, "rotary width of 24"),
    "gpt2-narrow": ("gpt2", {"num_attention_heads": 16}, "head width 4"),
}


def make_model(model_type: str, changes: dict[str, Any]) -> PreTrainedModel:
    """The model with random weights, norms and biases included, so that each is seen to matter."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **deepcopy(_COMMON | changes))  # transformers changes `rope_scaling`
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                is_norm = "norm" in name and name.endswith("weight")
                adds_one = "gemma" in model_type or (
                    model_type.startswith(("qwen3_5", "qwen3_next")) and "linear_attn" not in name
                )
                centre = float(is_norm and not adds_one)
                parameter.copy_(centre + 0.2 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
        for name, buffer in model.named_buffers():
            if name.endswith(("score_correction_bias", "expert_bias")):  # of routers
                buffer.copy_(0.2 * torch.randn_like(buffer))
        for name, buffer in model.named_buffers():
            if name.endswith("bias"):  # of the scores of experts
                buffer.copy_(0.2 * torch.randn_like(buffer))
    return model
