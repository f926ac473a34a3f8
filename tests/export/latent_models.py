"""Configurations of tiny models with multi-head latent attention: name -> (model_type, what its config changes)."""

from __future__ import annotations

from typing import Any

from tiny_config import GROUPS

_SIZES = {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
}
_YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.7,
    "mscale_all_dim": 0.8,
}
_UNPADDED = {"pad_token_id": None}  # transformers empties the padding token's row of Youtu's embedding while it loads

LATENT: dict[str, tuple[str, dict[str, Any]]] = {
    "minicpm3": ("minicpm3", {**_SIZES, "scale_emb": 3, "scale_depth": 1.4, "dim_model_base": 32}),
    "youtu": ("youtu", {**_SIZES, **_UNPADDED}),
    "youtu-wide-values": (
        "youtu",
        {**_SIZES, **_UNPADDED, "v_head_dim": 64, "q_lora_rank": None, "rope_interleave": False},
    ),
}
LATENT_MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "deepseek_v2": (
        "deepseek_v2",
        {**_SIZES, **GROUPS, "topk_method": "group_limited_greedy", "first_k_dense_replace": 1},
    ),
    "deepseek_v2-lite": (
        "deepseek_v2",
        {**_SIZES, **GROUPS, "q_lora_rank": None, "rope_scaling": _YARN, "first_k_dense_replace": 0},
    ),
    "deepseek_v3": ("deepseek_v3", {**_SIZES, **GROUPS, "first_k_dense_replace": 1, "rope_scaling": _YARN}),
    "sarvam_mla": ("sarvam_mla", {**_SIZES, **GROUPS, "first_k_dense_replace": 1}),
    "glm4_moe_lite": ("glm4_moe_lite", {**_SIZES, **GROUPS, "mlp_layer_types": ["dense", "sparse"]}),
}
