"""A field of config.json that changes the arithmetic is read by the model, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from arch_models import make_model
from infrs_export.sources.checks.config_fields import check_fields
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from infrs.errors import SourceError

REFUSED: dict[str, Any] = {
    "alibi": True,
    "attention_chunk_size": 8,
    "attention_multiplier": 0.3,
    "attn_logit_softcapping": 5.0,
    "clip_qkv": 0.1,
    "dim_model_base": 256,
    "embedding_multiplier": 3.0,
    "final_logit_softcapping": 3.0,
    "is_causal": False,
    "layer_types": ["sliding_attention"] * 2,
    "logit_scale": 0.5,
    "logits_scaling": 8.0,
    "num_local_experts": 8,
    "partial_rotary_factor": 0.5,
    "position_embedding_type": "alibi",
    "query_pre_attn_scalar": 24,
    "residual_multiplier": 0.3,
    "rope_base": 5e5,
    "rope_interleaved": True,
    "rope_scaling_by_layer": {"full_attention": 4.0},
    "rope_scaling_factor": 4.0,
    "rotary_pct": 0.5,
    "scale_emb": 12,
    "sliding_window": 7,
    "use_bidirectional_attention": True,
    "use_parallel_residual": True,
    "use_qk_norm": True,
}
# Fields of releases of these families that transformers does not read either, and that change nothing.
CARRIED: dict[str, dict[str, Any]] = {
    "bert": {"position_embedding_type": "absolute", "pooler_type": "first_token_transform", "directionality": "bidi"},
    "bloom": {"offset_alibi": 100, "attention_softmax_in_fp32": True, "masked_softmax_fusion": True, "n_inner": None},
    "deepseek_v2": {
        **{"aux_loss_alpha": 0.001, "ep_size": 1, "moe_layer_freq": 1, "scoring_func": "softmax", "seq_aux": True},
        **{"norm_topk_prob": False, "pretraining_tp": 1, "n_group": 1, "topk_group": 1, "topk_method": "greedy"},
    },
    "deepseek_v3": {"ep_size": 1, "moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "distilbert": {"sinusoidal_pos_embds": False, "tie_weights_": True, "output_past": True, "activation": "gelu"},
    "ernie4_5": {"compression_ratio": 1.0},
    "gemma": {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"},
    "gemma2": {"cache_implementation": "hybrid", "hidden_act": "gelu_pytorch_tanh"},
    "gemma3_text": {"_sliding_window_pattern": 6, "sliding_window_pattern": 6},
    "glm4_moe_lite": {"num_nextn_predict_layers": 1, "partial_rotary_factor": 1.0, "topk_method": "noaux_tc"},
    "gpt2": {"n_ctx": 1024, "summary_activation": None, "task_specific_params": {"text-generation": {"top_k": 50}}},
    "granitemoehybrid": {
        **{"normalization_function": "rmsnorm", "position_embedding_type": "nope", "init_method": "mup"},
        **{"layer_types": ["mamba", "attention"]},
    },
    "gptj": {"rotary": True, "rotary_dim": 64, "scale_attn_weights": True},
    "lfm2": {
        **{"block_mlp_init_scale": 1.0, "block_norm_eps": 1e-5, "block_out_init_scale": 1.0, "conv_dim": 64},
        **{"layer_types": ["conv", "full_attention"], "use_pos_enc": True},
    },
    "llama": {
        **{"activation": "swiglu", "hidden_act": "silu", "rope_interleaved": False, "pretraining_tp": 2},
        **{"layer_norm_eps": 1e-5, "rms_norm_eps": 1e-5, "use_sliding_window": False, "max_window_layers": 28},
        **{"sliding_window": 4096, "max_position_embeddings": 4096, "rope_base": 10000.0, "is_causal": True},
    },
    "mamba2": {"norm_before_gate": True, "rms_norm": True, "time_step_limit": [0.0, float("inf")]},
    "modernbert": {"layer_norm_eps": 1e-5, "norm_eps": 1e-5, "position_embedding_type": "absolute"},
    "phi3": {"interpolate_factor": 1, "full_attn_mod": 1, "embd_pdrop": 0.1},
    "qwen3_5_text": {"attn_output_gate": True, "full_attention_interval": 4, "mlp_only_layers": []},
    "qwen2": {"use_mrope": False, "max_window_layers": 28},
    "stablelm": {"norm_eps": 1e-5, "rope_pct": 0.25, "rotary_scaling_factor": 1.0, "partial_rotary_factor": 0.25},
    "starcoder2": {
        **{"activation_function": "gelu", "hidden_act": "gelu_pytorch_tanh", "norm_type": "layer_norm"},
        **{"layer_norm_epsilon": 1e-5, "norm_epsilon": 1e-5, "scale_attention_softmax_in_fp32": True},
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_fields_that_the_model_ignores_are_refused(name: str) -> None:
    with torch.device("meta"):
        model = make_meta("llama")
    with pytest.raises(SourceError, match=f"gives {name} as .*ignores in llama"):
        check_fields({"max_position_embeddings": 128, name: REFUSED[name]}, model)


@pytest.mark.parametrize("kind", ["linear_attention", "chunked_attention", 7, ["full_attention"]])
def test_unsupported_kind_of_layer_is_refused_by_name(kind: object) -> None:
    with pytest.raises(SourceError, match="in layer_types, which infrs cannot export"):
        check_fields({"layer_types": ["full_attention", kind]}, make_meta("qwen3"))


def test_rotary_scaling_of_a_model_without_rotation_is_refused() -> None:
    with pytest.raises(SourceError, match=r"gives rope_scaling as .*ignores in gpt2"):
        check_fields({"rope_scaling": {"type": "linear", "factor": 2.0}}, make_meta("gpt2"))


@pytest.mark.parametrize("field", ["release_notes", "embd_pdrop", "classifier_dropout", "x"])
@pytest.mark.parametrize("value", [None, 0.5, "text", {"a": [1]}])
def test_unknown_fields_without_arithmetic_are_ignored(field: str, value: object) -> None:
    check_fields({field: value}, make_meta("llama"))


@pytest.mark.parametrize("model_type", CARRIED)
def test_fields_of_releases_are_accepted(model_type: str) -> None:
    check_fields(CARRIED[model_type], make_meta(model_type))


def make_meta(model_type: str) -> Any:
    config = AutoConfig.for_model(model_type)
    known = type(config) in AutoModelForCausalLM._model_mapping and "bert" not in model_type
    with torch.device("meta"):
        return (AutoModelForCausalLM if known else AutoModel).from_config(config)


def test_the_loader_asks(tmp_path: Path) -> None:
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model("llama", {}).save_pretrained(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"final_logit_softcapping": 3.0}))
    with pytest.raises(SourceError, match="final_logit_softcapping"):
        load_model(resolve(str(folder), revision="main", model_id="tiny", note=print))


@pytest.mark.parametrize("activation", [None, "gelu_pytorch_tanh"])
def test_the_first_gemma_files_mean_the_tanh_form(tmp_path: Path, activation: str | None) -> None:
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model("gemma", {"head_dim": 32}).save_pretrained(folder)
    fields = {"hidden_act": "gelu", "hidden_activation": activation}
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    model: Any = load_model(resolve(str(folder), revision="main", model_id="tiny", note=print))
    assert "tanh" in str(model.model.layers[0].mlp.act_fn).lower()


@pytest.mark.parametrize("empty", [None, {}])
def test_an_empty_quantisation_is_none(tmp_path: Path, empty: object) -> None:
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model("llama", {}).save_pretrained(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": empty}))
    load_model(resolve(str(folder), revision="main", model_id="tiny", note=print))
