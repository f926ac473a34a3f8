"""The architectures of GGUF files that infrs reads, one row each.

Names, keys and defaults are those of llama.cpp (src/llama-model.cpp, gguf-py/gguf/constants.py). To add one, add a row
and compare its scores with llama.cpp in tests/export/test_gguf_model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_COMMON = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
_GROUPED = {**_COMMON, "attention.head_count_kv": "num_key_value_heads"}
_RMS = "attention.layer_norm_rms_epsilon"
_NORM = "attention.layer_norm_epsilon"
_EXPERTS = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
_LINEAR_ATTENTION = {
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "ssm.group_count": "linear_num_key_heads",
    "ssm.inner_size": "linear_value_head_dim",
    "ssm.state_size": "linear_key_head_dim",
    "ssm.time_step_rank": "linear_num_value_heads",
}
# The sections are for positions in images; in a text they are all the same position. A mixture has no dense layers.
_QWEN35_NEUTRAL = ("rope.dimension_sections", "full_attention_interval", "nextn_predict_layers", "feed_forward_length")
ROPE_FACTORS = "rope_freqs.weight"
SHORT_FACTORS, LONG_FACTORS = "rope_factors_short.weight", "rope_factors_long.weight"  # of LongRoPE
FACTORS = (ROPE_FACTORS, SHORT_FACTORS, LONG_FACTORS)
_SOFT_CAP = {"final_logit_softcapping": "final_logit_softcapping"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a file of one architecture becomes a model of transformers.

    model_type: of transformers. required: the keys that a file must have, each with the field that it sets.
    optional: the same for keys that it may have; the value 0 then means None. fixed: fields without a key.
    neutral: keys that change nothing, at these values, or None for any value. reordered: the rows of the query and key
    projections pair neighbours, where transformers pairs halves. norm_adds_one: the norms hold 1 more than those of
    transformers. transposed: products hold their weights the other way round. rotary: positions are rotary.
    partial_rotary: only the first features of a head may be. scalings: the types of rope.scaling that are compared with
    llama.cpp. factors: the tensors of FACTORS that a file may hold. linear_attention: some layers have the gated delta
    rule (`gated_delta`). layers_scaled_by_width: the number of layers of the one size that scales scores by the model's
    width instead of the head's; 0 where no size has a scale of its own.
    """

    model_type: str
    required: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    neutral: Mapping[str, tuple[object, ...] | None] = field(default_factory=dict)
    reordered: bool = False
    norm_adds_one: bool = False
    transposed: bool = False
    rotary: bool = True
    partial_rotary: bool = False
    scalings: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    linear_attention: bool = False
    layers_scaled_by_width: int = 0


def _llama(model_type: str, **row: Any) -> Architecture:  # noqa: ANN401  # the fields of Architecture
    """Return the row of an architecture with the keys of Llama."""
    required = {**_GROUPED, _RMS: "rms_norm_eps", **row.pop("required", {})}
    return Architecture(model_type, required, **row)


def _qwen35(model_type: str, required: Mapping[str, str]) -> Architecture:
    """Return the row of a Qwen 3.5."""
    common = {key: field for key, field in _GROUPED.items() if key != "feed_forward_length"}
    return Architecture(
        model_type,
        {**common, _RMS: "rms_norm_eps", **_LINEAR_ATTENTION, **required},
        neutral=dict.fromkeys(_QWEN35_NEUTRAL),
        norm_adds_one=True,
        partial_rotary=True,
        linear_attention=True,
    )


ARCHITECTURES = {
    "arcee": _llama("arcee", reordered=True),
    "ernie4_5": _llama("ernie4_5", fixed={"use_bias": False}),
    "gemma": _llama("gemma", norm_adds_one=True, fixed={"hidden_act": "gelu_pytorch_tanh"}),
    "gemma2": _llama(
        "gemma2",
        layers_scaled_by_width=46,
        scalings=("linear",),
        norm_adds_one=True,
        optional={
            "attention.sliding_window": "sliding_window",
            "attn_logit_softcapping": "attn_logit_softcapping",
            **_SOFT_CAP,
        },
        neutral={"attention.sliding_window_pattern": (2,)},
    ),
    "gemma3": _llama(
        "gemma3_text",
        layers_scaled_by_width=62,
        scalings=("linear",),
        norm_adds_one=True,
        required={"attention.sliding_window": "sliding_window"},
        optional={"rope.freq_base_swa": "rope_local_base_freq", **_SOFT_CAP},
        neutral={"attention.sliding_window_pattern": (6,)},
    ),
    "glm4": _llama("glm4", fixed={"attention_bias": True}, neutral={"nextn_predict_layers": (0,)}, partial_rotary=True),
    "gpt2": Architecture(
        "gpt2",
        {**_COMMON, "feed_forward_length": "n_inner", _NORM: "layer_norm_epsilon"},
        transposed=True,
        rotary=False,
    ),
    "granite": _llama(
        "granite",
        reordered=True,
        required={
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
        neutral={"rope.scaling.finetuned": (True,)},  # false turns the rotation off
    ),
    "llama": _llama("llama", reordered=True, scalings=("linear", "yarn"), factors=(ROPE_FACTORS,)),
    "olmo": Architecture(
        "olmo",
        _GROUPED,
        optional={"attention.clamp_kqv": "clip_qkv"},
        neutral={_NORM: (1e-5,)},
        reordered=True,
    ),
    "olmo2": _llama("olmo2"),
    "olmoe": _llama("olmoe", required=_EXPERTS, optional={"attention.clamp_kqv": "clip_qkv"}),
    "phi3": _llama(
        "phi3",
        optional={"attention.sliding_window": "sliding_window"},
        partial_rotary=True,
        factors=(SHORT_FACTORS, LONG_FACTORS),
    ),
    "qwen2": _llama("qwen2", scalings=("linear", "yarn")),
    "qwen3": _llama("qwen3", scalings=("linear", "yarn")),
    "qwen35": _qwen35("qwen3_5_text", {"feed_forward_length": "intermediate_size"}),
    "qwen35moe": _qwen35(
        "qwen3_5_moe_text",
        {
            **_EXPERTS,
            "expert_feed_forward_length": "moe_intermediate_size",
            "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
        },
    ),
    "qwen3moe": _llama(
        "qwen3_moe",
        required={**_EXPERTS, "expert_feed_forward_length": "moe_intermediate_size"},
        fixed={"norm_topk_prob": True},
        scalings=("linear", "yarn"),
    ),
    "smollm3": _llama("smollm3", reordered=True, fixed={"no_rope_layer_interval": 4}),
    "starcoder2": Architecture("starcoder2", {**_GROUPED, _NORM: "norm_epsilon"}, fixed={"sliding_window": None}),
}
