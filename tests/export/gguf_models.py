"""GGUF files of tiny models, written as llama.cpp's converter writes them, and llama.cpp's own answers to them."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gguf
import numpy as np
import xllamacpp
from arch_models import make_model
from gguf import GGUFWriter
from numpy.typing import NDArray
from tokenizers import pre_tokenizers
from transformers import PreTrainedModel

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<s>", "</s>", *ALPHABET, "th"]
CONTEXT = 64
_COMMON: dict[str, Any] = {"vocab_size": len(TOKENS), "max_position_embeddings": CONTEXT, "bos_token_id": 0}
_MODEL_TYPES = {
    "gemma3": "gemma3_text",
    "qwen3moe": "qwen3_moe",
    "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
}
_ARCHITECTURES = {model_type: name for name, model_type in _MODEL_TYPES.items()}
_EXPERTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
# The converter of these makes the rows of query and key neighbours that rotate together.
_REORDERED = ("arcee", "granite", "llama", "olmo", "smollm3")
_LINEAR_ATTENTION = ("qwen35", "qwen35moe")
_EPSILONS = {"gpt2": "layer_norm_epsilon", "olmo": None, "starcoder2": "norm_epsilon"}  # of layer norms, not RMS norms
_GRANITE = {
    ".attention.scale": "attention_multiplier",
    ".embedding_scale": "embedding_multiplier",
    ".residual_scale": "residual_multiplier",
    ".logit_scale": "logits_scaling",
}
_ADDERS = {str: "add_string", bool: "add_bool", int: "add_uint32", float: "add_float32", list: "add_array"}


def make(architecture: str, changes: dict[str, Any]) -> PreTrainedModel:
    """A tiny model with the vocabulary of these files."""
    return make_model(_MODEL_TYPES.get(architecture, architecture), {**_COMMON, "eos_token_id": 1, **changes})


def write_gguf(  # noqa: PLR0912  # a line or two for each architecture
    path: Path,
    model: PreTrainedModel,
    keys: dict[str, Any] | None = None,
    *,
    tensors: dict[str, NDArray[np.float32]] | None = None,
    drop: tuple[str, ...] = (),
    merges: tuple[str, ...] = (),
) -> Path:
    """Write `model` as a GGUF file of float32.

    keys: metadata to add, or to leave out where it is None; those that begin with a dot are the architecture's.
    tensors: to add. drop: tensors to leave out, by a part of their names. merges: of the tokenizer, besides one.
    """
    config: Any = model.config
    architecture = _ARCHITECTURES.get(config.model_type, str(config.model_type))
    writer = GGUFWriter(path, architecture)
    heads, width = config.num_attention_heads, config.hidden_size
    head_dim = getattr(config, "head_dim", None) or width // heads
    metadata: dict[str, Any] = {
        ".context_length": config.max_position_embeddings,
        ".block_count": config.num_hidden_layers,
        ".embedding_length": width,
        ".feed_forward_length": 4 * width if architecture == "gpt2" else getattr(config, "intermediate_size", None),
        ".attention.head_count": heads,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2" if architecture.startswith("qwen") else "llama-bpe",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (len(TOKENS) - 2),
        "tokenizer.ggml.merges": ["t h", *merges],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }
    if architecture in _EPSILONS:
        epsilon = _EPSILONS[architecture]
        metadata[".attention.layer_norm_epsilon"] = getattr(config, epsilon) if epsilon else 1e-5
    else:
        metadata[".attention.layer_norm_rms_epsilon"] = config.rms_norm_eps
    if architecture != "gpt2":
        rope = config.rope_parameters.get("full_attention", config.rope_parameters)
        metadata |= {
            ".attention.head_count_kv": config.num_key_value_heads,
            ".rope.freq_base": float(rope["rope_theta"]),
        }
    if head_dim * heads != width or architecture.startswith("gemma"):
        metadata |= {".attention.key_length": head_dim, ".attention.value_length": head_dim}
    if architecture in ("gemma2", "gemma3", "phi3") and config.sliding_window:
        metadata[".attention.sliding_window"] = config.sliding_window
    if architecture in ("llama", "phi3"):
        metadata[".rope.dimension_count"] = head_dim
    if architecture == "granite":
        metadata |= {key: float(getattr(config, field)) for key, field in _GRANITE.items()}
    if getattr(config, "num_experts", None):
        metadata |= {".expert_count": config.num_experts, ".expert_used_count": config.num_experts_per_tok}
    if architecture in ("qwen3moe", "qwen35moe"):
        metadata[".expert_feed_forward_length"] = config.moe_intermediate_size
    if architecture == "qwen35moe":
        metadata[".expert_shared_feed_forward_length"] = config.shared_expert_intermediate_size
    if architecture in _LINEAR_ATTENTION:
        key_heads, value_heads = config.linear_num_key_heads, config.linear_num_value_heads
        metadata |= {
            ".rope.dimension_count": int(head_dim * rope["partial_rotary_factor"]),
            ".rope.dimension_sections": [11, 11, 10, 0],
            ".ssm.conv_kernel": config.linear_conv_kernel_dim,
            ".ssm.state_size": config.linear_key_head_dim,
            ".ssm.group_count": key_heads,
            ".ssm.time_step_rank": value_heads,
            ".ssm.inner_size": value_heads * config.linear_value_head_dim,
            ".full_attention_interval": 1 + config.layer_types.index("full_attention"),
        }
    for key, value in (metadata | (keys or {})).items():
        if value is not None:
            getattr(writer, _ADDERS[type(value)])(key if key[0] != "." else architecture + key, value)
    for name, array in {**_tensors(model, architecture), **(tensors or {})}.items():
        if not any(part in name for part in drop):
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(model: PreTrainedModel, architecture: str) -> dict[str, NDArray[np.float32]]:
    config: Any = model.config
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    written = {}
    for name, parameter in model.named_parameters():  # a tied head only once
        base, _, suffix = name.rpartition(".")
        array = parameter.detach().numpy()
        if suffix in _EXPERTS:
            matrices = np.split(array, len(_EXPERTS[suffix]), axis=1)
            for matrix, values in zip(_EXPERTS[suffix], matrices, strict=True):
                written[f"{names.get_name(f'{base}.{matrix}')}.weight"] = np.ascontiguousarray(values)
            continue
        if architecture in _REORDERED and base.endswith(("q_proj", "k_proj")):
            count = config.num_attention_heads if base.endswith("q_proj") else config.num_key_value_heads
            halves = array.reshape(count, 2, len(array) // count // 2, *array.shape[1:])
            array = halves.swapaxes(1, 2).reshape(array.shape)  # pairs of neighbours rotate together there
        if architecture.startswith("gemma") and base.endswith("norm"):
            array = array + 1
        if architecture in _LINEAR_ATTENTION:
            name, array = _linear_attention(name, array, config)  # noqa: PLW2901
            base, _, suffix = name.rpartition(".")
            if (whole := names.get_name(name)) is not None:
                written[whole] = array
                continue
        if architecture == "gpt2" and ".h." in base and array.ndim == 2:
            array = array.T
        written[f"{names.get_name(base)}.{suffix}"] = np.ascontiguousarray(array)
    return written


def _linear_attention(name: str, array: NDArray[np.float32], config: Any) -> tuple[str, NDArray[np.float32]]:
    """Return what llama.cpp's converter makes of a tensor of Qwen 3.5. It tiles value heads over key heads."""
    key_heads, value_heads, width = (
        getattr(config, f"linear_{field}") for field in ("num_key_heads", "num_value_heads", "value_head_dim")
    )
    heads = np.arange(value_heads).reshape(key_heads, -1).T.reshape(-1)
    rows = np.arange(value_heads * width).reshape(value_heads, width)[heads].reshape(-1)
    num_first = 2 * key_heads * config.linear_key_head_dim  # rows of query and key
    match name.rpartition("linear_attn.")[2]:
        case "A_log":
            array = -np.exp(array)[heads]
        case "dt_bias":
            name, array = name.replace("dt_bias", "dt_proj.bias"), array[heads]
        case "in_proj_a.weight" | "in_proj_b.weight":
            array = array[heads]
        case "in_proj_z.weight":
            array = array[rows]
        case "in_proj_qkv.weight" | "conv1d.weight":
            array = array.reshape(len(array), -1)
            array = np.concatenate([array[:num_first], array[num_first:][rows]])
        case "out_proj.weight":
            array = array[:, rows]
        case _ if name.endswith("norm.weight") and "linear_attn" not in name:
            array = array + 1
        case _ if name.endswith("shared_expert_gate.weight"):
            array = array[0]
    return name, np.ascontiguousarray(array)


def llama_cpp_scores(path: Path, ids: list[int]) -> NDArray[np.float32]:
    """Logarithms of llama.cpp's probabilities of every token behind `ids`, in float32 throughout."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = CONTEXT, CONTEXT, CONTEXT, 1
    params.warmup, params.fit_params, params.port, params.verbosity = False, False, 0, 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    body = {"prompt": ids, "n_predict": 1, "n_probs": len(TOKENS), "temperature": 0, "cache_prompt": False}
    body["logit_bias"] = [[TOKENS.index("a"), 100]]  # a part of a character would not be answered
    connection = http.client.HTTPConnection(urlsplit(server.listening_address).netloc, timeout=60)
    connection.request("POST", "/completion", json.dumps(body))
    answer = json.load(connection.getresponse())
    connection.close()
    scores = np.full(len(TOKENS), np.nan, np.float32)
    for one in answer["completion_probabilities"][0]["top_logprobs"]:
        scores[one["id"]] = one["logprob"]
    return scores
