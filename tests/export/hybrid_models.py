"""The configurations of tiny models with states of a fixed size, one for each family and variant."""

from __future__ import annotations

from typing import Any

from tiny_config import EXPERTS, LOCAL, SCALES

_DELTA = {
    "num_hidden_layers": 3,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "head_dim": 32,
    "partial_rotary_factor": 0.5,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
}
_CONV = {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "conv"]}
_MAMBA = {
    "num_hidden_layers": 3,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_ssm": 128,
    "mamba_n_groups": 2,
    "mamba_d_state": 24,
    "mamba_expand": 2,
    "mamba_chunk_size": 32,
    "mamba_proj_bias": True,
}
_FALCON = {
    "num_hidden_layers": 2,
    "head_dim": 32,
    "key_multiplier": 0.5,
    "lm_head_multiplier": 0.7,
    "embedding_multiplier": 1.5,
    "mlp_multipliers": [0.8, 1.2],
    "ssm_multipliers": [0.9, 1.1, 0.8, 1.2, 1.3],
    "ssm_in_multiplier": 0.7,
    "ssm_out_multiplier": 1.4,
    "attention_in_multiplier": 1.3,
    "attention_out_multiplier": 0.6,
}
_MAMBA_2 = {
    "num_hidden_layers": 2,
    "num_heads": 8,
    "head_dim": 16,
    "n_groups": 2,
    "state_size": 24,
    "expand": 2,
    "chunk_size": 32,
}
_SHALLOW = {"num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"]}
_OLMO = {name: value for name, value in (_DELTA | _SHALLOW).items() if name != "partial_rotary_factor"}
# name -> (model_type, what its config changes)
HYBRID_MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "granitemoehybrid": (
        "granitemoehybrid",
        {
            **_MAMBA,
            **SCALES,
            **LOCAL,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "shared_intermediate_size": 64,
        },
    ),
    "lfm2_moe": ("lfm2_moe", {**_CONV, **EXPERTS, "num_dense_layers": 1, "use_expert_bias": True}),
    "qwen3_5_moe": ("qwen3_5_moe_text", {**_DELTA, **_SHALLOW, **EXPERTS, "shared_expert_intermediate_size": 64}),
    "qwen3_next": (
        "qwen3_next",
        {
            **_DELTA,
            **_SHALLOW,
            **EXPERTS,
            "shared_expert_intermediate_size": 64,
            "mlp_only_layers": [1],
            "norm_topk_prob": True,
        },
    ),
}
RECURRENT: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5": ("qwen3_5_text", _DELTA),
    "bamba": ("bamba", {**_MAMBA, "attn_layer_indices": [1], "partial_rotary_factor": 0.5, "head_dim": 32}),
    "falcon_h1": ("falcon_h1", {**_MAMBA, **_FALCON, "mamba_rms_norm": True}),
    "falcon_h1-gate-first": (
        "falcon_h1",
        {**_MAMBA, **_FALCON, "mamba_rms_norm": True, "mamba_norm_before_gate": False, "mamba_n_groups": 1},
    ),
    "falcon_h1-no-norm": ("falcon_h1", {**_MAMBA, **_FALCON, "mamba_rms_norm": False}),
    "granitemoehybrid-dense": (
        "granitemoehybrid",
        {
            **_MAMBA,
            **SCALES,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 96,
        },
    ),
    "lfm2": ("lfm2", {**_CONV, "block_auto_adjust_ff_dim": False}),
    "mamba2": ("mamba2", _MAMBA_2),
    "nemotron_h": (
        "nemotron_h",
        {
            "layers_block_type": ["linear_attention", "mlp", "full_attention", "linear_attention", "mlp"],
            "num_hidden_layers": 5,
            "head_dim": 32,
            "mamba_num_heads": 8,
            "mamba_head_dim": 16,
            "n_groups": 2,
            "ssm_state_size": 24,
            "chunk_size": 32,
        },
    ),
    "olmo_hybrid": ("olmo_hybrid", {**_OLMO, "rope_parameters": {"rope_theta": None}, "num_key_value_heads": 4}),
    "olmo_hybrid-rope": (
        "olmo_hybrid",
        {**_OLMO, "rope_theta": 1e4, "linear_allow_neg_eigval": False},
    ),
    "mamba2-bias": ("mamba2", {**_MAMBA_2, "use_bias": True, "use_conv_bias": False}),
    "lfm2-bias": ("lfm2", {**_CONV, "conv_bias": True}),
}
RECURRENT |= HYBRID_MIXTURES
