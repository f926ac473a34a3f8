"""A GGUF file is the model that llama.cpp runs from it, or is refused by the key or tensor that cannot be honoured."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from gguf_models import CONTEXT, llama_cpp_scores, make, write_gguf
from infrs_export.graph.fusions.architectures import fix_rope_factors
from infrs_export.pipeline import export_model
from infrs_export.sources.gguf.architectures import ARCHITECTURES, LONG_FACTORS, ROPE_FACTORS, SHORT_FACTORS
from infrs_export.sources.gguf.config import config_fields
from infrs_export.sources.gguf.tokenizer import write_tokenizer
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model
from numpy.typing import NDArray
from tokenizers import Tokenizer

from infrs.errors import SourceError

IDS = [(7 * i * i + 3 * i + 5) % 200 + 2 for i in range(48)]
_LINEAR = {".rope.scaling.type": "linear", ".rope.scaling.factor": 4.0}
_YARN = {".rope.scaling.type": "yarn", ".rope.scaling.factor": 4.0, ".rope.scaling.original_context_length": 16}
_BETAS = {".rope.scaling.yarn_beta_fast": 8.0, ".rope.scaling.yarn_beta_slow": 2.0}
_FACTORS = np.array([1.0] * 3 + [1.5, 3.0, 8.0, 8.0, 8.0], np.float32)
_GEMMA = {"head_dim": 32, "sliding_window": 7, "tie_word_embeddings": True, "num_hidden_layers": 7}
_DELTA = {
    "head_dim": 32,
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5, "rope_type": "default"},
}

_HALF = {"rope_type": "default", "partial_rotary_factor": 0.5}

# name -> (architecture, changes of its configuration, keys, rope factors)
_WIDE = {"sliding_window": None, "hidden_size": 128}  # heads of 32
SAME: dict[str, tuple[str, dict[str, Any], dict[str, Any], NDArray[np.float32] | None]] = {
    "llama": ("llama", {}, {}, None),
    "llama-tied": ("llama", {"tie_word_embeddings": True}, {}, None),
    "llama-head-width": ("llama", {"head_dim": 32}, {}, None),
    "llama-theta": ("llama", {"rope_theta": 5e5}, {}, None),
    "llama-no-theta": ("llama", {}, {".rope.freq_base": None}, None),
    "llama-neutral": (
        "llama",
        {},
        {".expert_count": 0, ".rope.scaling.finetuned": True, ".attention.causal": True},
        None,
    ),
    "llama-named-mistral": ("llama", {"max_position_embeddings": 64}, {"general.name": "mistral"}, None),
    "llama-factors": ("llama", {"rope_theta": 5e5}, {}, _FACTORS),
    "llama-linear": ("llama", {}, _LINEAR, None),
    "llama-linear-untyped": ("llama", {}, {".rope.scaling.factor": 4.0}, None),
    "llama-linear-old": ("llama", {}, {".rope.scale_linear": 4.0}, None),
    "llama-none": ("llama", {}, _LINEAR | {".rope.scaling.type": "none"}, None),
    "llama-linear-factors": ("llama", {}, _LINEAR, _FACTORS),
    "llama-yarn": ("llama", {}, _YARN, None),
    "llama-yarn-betas": ("llama", {}, _YARN | _BETAS, None),
    "qwen2": ("qwen2", {}, {}, None),
    "qwen2-yarn": ("qwen2", {"rope_theta": 1e6}, _YARN, None),
    "qwen2-yarn-of-context": ("qwen2", {}, _YARN | {".rope.scaling.original_context_length": None}, None),
    "qwen3": ("qwen3", {"head_dim": 32}, {}, None),
    "qwen3moe": (
        "qwen3moe",
        {
            "head_dim": 32,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "norm_topk_prob": True,
        },
        {},
        None,
    ),
    "qwen35": ("qwen35", _DELTA, {}, None),
    "qwen35-shared-keys": ("qwen35", {**_DELTA, "linear_num_value_heads": 6}, {}, None),
    "qwen35moe": (
        "qwen35moe",
        {
            **_DELTA,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 48,
        },
        {},
        None,
    ),
    "qwen3-yarn": ("qwen3", {"head_dim": 16}, _YARN, None),
    "gemma2": ("gemma2", {**_GEMMA, "query_pre_attn_scalar": 32}, {}, None),
    "gemma2-softcap": (
        "gemma2",
        {**_GEMMA, "query_pre_attn_scalar": 32, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
        {".attn_logit_softcapping": 5.0, ".final_logit_softcapping": 3.0},
        None,
    ),
    "gemma3": (
        "gemma3",
        {**_GEMMA, "query_pre_attn_scalar": 32, "rope_theta": 1e6},
        {".attention.sliding_window_pattern": 6},
        None,
    ),
    "arcee": ("arcee", {}, {}, None),
    "ernie4_5": ("ernie4_5", {"use_bias": False}, {}, None),
    "gemma": ("gemma", {"head_dim": 32, "tie_word_embeddings": True, "hidden_act": "gelu_pytorch_tanh"}, {}, None),
    "glm4": (
        "glm4",
        {"num_key_value_heads": 2, "rope_parameters": {**_HALF, "rope_theta": 5e5}, "attention_bias": True},
        {".rope.dimension_count": 8},
        None,
    ),
    "gpt2": ("gpt2", {"tie_word_embeddings": True}, {}, None),
    "granite": (
        "granite",
        {"attention_multiplier": 0.1, "embedding_multiplier": 3.0, "residual_multiplier": 0.3, "logits_scaling": 4.0},
        {".rope.dimension_count": 16, ".rope.scaling.finetuned": True},
        None,
    ),
    "olmo": ("olmo", {}, {}, None),
    "olmo-clamp": ("olmo", {"clip_qkv": 0.2}, {".attention.clamp_kqv": 0.2}, None),
    "olmo2": ("olmo2", {}, {}, None),
    "olmoe": (
        "olmoe",
        {"num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 32, "num_key_value_heads": 4},
        {},
        None,
    ),
    "phi3": ("phi3", {"sliding_window": None}, {}, None),
    "phi3-window": ("phi3", {"sliding_window": 64}, {}, None),
    "phi3-partial": ("phi3", {**_WIDE, "partial_rotary_factor": 0.5}, {".rope.dimension_count": 16}, None),
    "smollm3": ("smollm3", {"num_hidden_layers": 5, "no_rope_layer_interval": 4}, {}, None),
    "starcoder2": ("starcoder2", {"sliding_window": None, "tie_word_embeddings": True}, {}, None),
    "gemma3-linear": ("gemma3", {**_GEMMA, "query_pre_attn_scalar": 32, "rope_theta": 1e6}, _LINEAR, None),
}


def load(path: Path) -> Any:
    return load_model(resolve(str(path), revision="main", model_id=None, note=print))


def scores(path: Path) -> NDArray[np.float32]:
    model = load(path)
    fix_rope_factors(model, CONTEXT)
    with torch.inference_mode():
        logits = model(torch.tensor([IDS])).logits[0, -1]
        result: NDArray[np.float32] = torch.log_softmax(logits, -1).numpy()
    return result


@pytest.mark.parametrize("name", SAME)
def test_scores_are_those_of_llama_cpp(tmp_path: Path, name: str) -> None:
    architecture, changes, keys, factors = SAME[name]
    tensors = {} if factors is None else {ROPE_FACTORS: factors}
    path = write_gguf(tmp_path / "model.gguf", make(architecture, changes), keys, tensors=tensors)
    with_gelu = architecture.startswith(("gemma", "gpt2", "starcoder2"))
    tolerance = 4e-3 if with_gelu else 2e-5  # llama.cpp looks GELU up in a table of float16
    np.testing.assert_allclose(scores(path), llama_cpp_scores(path, IDS), atol=tolerance, rtol=5e-6)


@pytest.mark.parametrize("original", [50, 4096], ids=["long", "short"])
@pytest.mark.parametrize("attention", [1.19, None])
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_longrope_is_that_of_llama_cpp(tmp_path: Path, original: int, attention: float | None, part: float) -> None:
    """It chooses the factors by the context that it is opened with: here 64 tokens, or 256 as it rounds them up."""
    assert len(IDS) < original
    width = int(32 * part)
    lists = {SHORT_FACTORS: np.linspace(1, 2, width // 2), LONG_FACTORS: np.linspace(4, 9, width // 2)}
    keys = {
        ".context_length": 2 * original,
        ".rope.dimension_count": width,
        ".rope.scaling.original_context_length": original,
        ".rope.scaling.attn_factor": attention,
    }
    tensors = {name: factors.astype(np.float32) for name, factors in lists.items()}
    path = write_gguf(
        tmp_path / "model.gguf", make("phi3", {**_WIDE, "partial_rotary_factor": part}), keys, tensors=tensors
    )
    np.testing.assert_allclose(scores(path), llama_cpp_scores(path, IDS), atol=2e-5, rtol=5e-6)


def test_each_architecture_is_compared_with_llama_cpp_and_listed() -> None:
    assert {architecture for architecture, *_ in SAME.values()} == ARCHITECTURES.keys()
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    listed = text.partition("scores of each with llama.cpp:")[2].partition(". Layers")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == ARCHITECTURES.keys()


def test_layers_that_draft_tokens_are_left_out(tmp_path: Path) -> None:
    model = make("qwen35", _DELTA)
    plain = write_gguf(tmp_path / "plain.gguf", model)
    keys = {".block_count": 5, ".nextn_predict_layers": 1}
    drafts = {"blk.4.attn_norm.weight": (64,), "blk.4.nextn.eh_proj.weight": (64, 128)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in drafts.items()}
    path = write_gguf(tmp_path / "model.gguf", model, keys, tensors=tensors)
    np.testing.assert_array_equal(scores(path), scores(plain))


@pytest.mark.parametrize("keys", [_LINEAR, _YARN, {".rope.freq_base": 5e5}])
def test_positions_matter_to_the_files_that_are_compared(tmp_path: Path, keys: dict[str, Any]) -> None:
    model = make("llama", {})
    plain, changed = (write_gguf(tmp_path / f"{i}.gguf", model, given) for i, given in enumerate(({}, keys)))
    assert np.abs(scores(plain) - scores(changed)).max() > 1e-2


@pytest.mark.parametrize(
    ("architecture", "layers", "scalar"),
    [("gemma2", 42, 32), ("gemma2", 46, 16), ("gemma3", 48, 32), ("gemma3", 62, 16)],
)
def test_the_largest_gemmas_scale_scores_by_their_width(architecture: str, layers: int, scalar: int) -> None:
    """llama.cpp detects them by their number of layers, because the file has no field for it."""
    said = {"context_length": 64, "block_count": layers, "embedding_length": 64, "feed_forward_length": 96}
    attention = {"head_count": 4, "head_count_kv": 2, "layer_norm_rms_epsilon": 1e-6, "key_length": 32}
    said |= {f"attention.{name}": value for name, value in attention.items()} | {"attention.sliding_window": 7}
    metadata = {"general.architecture": architecture} | {f"{architecture}.{name}": said[name] for name in said}
    assert config_fields(metadata, {})["query_pre_attn_scalar"] == scalar


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("context_length", 1 << 31),
        ("context_length", 0),
        ("block_count", 1 << 31),
        ("embedding_length", 0),
        ("embedding_length", "64"),
        ("feed_forward_length", -1),
        ("attention.head_count", 0),
        ("attention.head_count", True),
        ("attention.head_count_kv", 0),
        ("attention.key_length", 1 << 60),
        ("attention.layer_norm_rms_epsilon", 0.0),
        ("attention.layer_norm_rms_epsilon", math.nan),
        ("rope.freq_base", -10000.0),
        ("rope.freq_base", math.inf),
        ("rope.scaling.factor", -2.0),
        ("rope.scaling.factor", math.nan),
    ],
)
def test_a_number_out_of_its_range_is_refused(key: str, value: object) -> None:
    numbers = {"context_length": 64, "block_count": 2, "embedding_length": 64, "feed_forward_length": 96}
    numbers |= {"attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-6}
    metadata = {"general.architecture": "llama"} | {f"llama.{name}": number for name, number in numbers.items()}
    assert config_fields(metadata, {})["head_dim"] == 16
    with pytest.raises(SourceError, match=rf"llama\.{re.escape(key)} as .* not between"):
        config_fields({**metadata, f"llama.{key}": value}, {})


KEYS: dict[str, tuple[str, dict[str, Any], str]] = {
    "one of two shards": ("llama", {"split.count": 2, "split.no": 0}, "part 1 of 2"),
    "the last shard": ("llama", {"split.count": 3, "split.no": 2}, "part 3 of 3.*llama-gguf-split --merge"),
    "an adapter": ("llama", {"general.type": "adapter"}, "'adapter'"),
    "experts": ("llama", {".expert_count": 8}, r"llama\.expert_count as 8"),
    "longrope": ("llama", {".rope.scaling.type": "longrope"}, r"llama\.rope\.scaling\.type is 'longrope'"),
    "a factor of attention": ("llama", _YARN | {".rope.scaling.attn_factor": 2.0}, r"rope\.scaling\.attn_factor"),
    "a part of a head": ("llama", {".rope.dimension_count": 8}, r"llama\.rope\.dimension_count is 8"),
    "narrow values": ("qwen2", {".attention.value_length": 8}, r"qwen2\.attention\.value_length is 8"),
    "a clamp": ("llama", {".attention.clamp_kqv": 8.0}, r"llama\.attention\.clamp_kqv as 8\.0"),
    "a scale of logits": ("llama", {".logit_scale": 0.5}, r"llama\.logit_scale"),
    "heads by layer": ("llama", {".attention.head_count_kv": [2, 1]}, r"llama\.attention\.head_count_kv differs"),
    "no key/value heads": ("llama", {".attention.head_count_kv": None}, r"no llama\.attention\.head_count_kv"),
    "a key of tomorrow": ("qwen3", {".attention.twist": 3}, r"qwen3\.attention\.twist as 3"),
    "value heads that key heads do not divide": ("qwen35", {".ssm.group_count": 3}, "2 value heads of 3 groups"),
    "wide states": ("qwen35", {".ssm.state_size": 64}, "64 as ssm.inner_size for states of 64"),
    "nothing but drafts": ("qwen35", {".nextn_predict_layers": 4}, "gives qwen35 0 layers"),
    "gemma by yarn": ("gemma3", _YARN, r"gemma3\.rope\.scaling\.type"),
    "gemma by another pattern": ("gemma3", {".attention.sliding_window_pattern": 5}, "sliding_window_pattern as 5"),
    "gemma without its window": (
        "gemma3",
        {".attention.sliding_window": None},
        r"no gemma3\.attention\.sliding_window",
    ),
    "an architecture": ("llama", {"general.architecture": "mamba"}, "llama, .*, starcoder2, not of 'mamba'"),
}


@pytest.mark.parametrize("name", KEYS)
def test_metadata_that_cannot_be_honoured_is_refused(tmp_path: Path, name: str) -> None:
    architecture, keys, words = KEYS[name]
    model = make(architecture, {"gemma3": _GEMMA, "qwen35": _DELTA}.get(architecture, {}))
    path = write_gguf(tmp_path / "model.gguf", model, {**keys})
    with pytest.raises(SourceError, match=words):
        load(path)


@pytest.mark.parametrize(
    ("drop", "tensors", "words"),
    [
        (("blk.1.ffn_down",), {}, r"lack model\.layers\.1\.mlp\.down_proj\.weight"),
        (("blk.1.",), {}, r"lack model\.layers\.1\..* and 8 more"),
        (("output_norm",), {}, r"lack model\.norm\.weight"),
        (("token_embd",), {}, "lack"),
        ((), {"blk.0.attn_q.bias": (64,)}, r"hold blk\.0\.attn_q\.bias,"),
        ((), {"blk.0.ffn_gate_exps.weight": (4, 96, 64)}, r"hold blk\.0\.ffn_gate_exps\.weight"),
        ((), {ROPE_FACTORS: (4,)}, f"4 factors in {ROPE_FACTORS}"),
        ((), {SHORT_FACTORS: (8,), LONG_FACTORS: (8,)}, f"8 and 8 factors in {SHORT_FACTORS} .* cannot apply to llama"),
        ((), {SHORT_FACTORS: (8,)}, f"8 and 0 factors in {SHORT_FACTORS}"),
    ],
)
def test_every_tensor_is_there_and_used(
    tmp_path: Path, drop: tuple[str, ...], tensors: dict[str, tuple[int, ...]], words: str
) -> None:
    added = {name: np.ones(shape, np.float32) for name, shape in tensors.items()}
    path = write_gguf(tmp_path / "model.gguf", make("llama", {}), tensors=added, drop=drop)
    with pytest.raises(SourceError, match=words):
        load(path)


def test_a_weight_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    model = make("llama", {})
    model.model.norm.weight.data[3] = torch.nan
    with pytest.raises(SourceError, match=r"model\.norm\.weight of .* holds NaN or infinity"):
        load(write_gguf(tmp_path / "model.gguf", model))


def test_a_later_shard_which_holds_no_metadata_is_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "model-00002-of-00002.gguf", "llama")
    writer.kv_data[0].pop("general.architecture")
    writer.add_uint16("split.no", 1)
    writer.add_uint16("split.count", 2)
    writer.add_tensor("blk.1.attn_q.weight", np.ones((64, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(SourceError, match="part 2 of 2"):
        load(tmp_path / "model-00002-of-00002.gguf")


@pytest.mark.parametrize("size", [0, 100, 5_000, -5_000])
def test_truncated_gguf_file_is_refused(tmp_path: Path, size: int) -> None:
    path = write_gguf(tmp_path / "model.gguf", make("llama", {}))
    content = path.read_bytes()
    path.write_bytes(content[:size])
    with pytest.raises(SourceError):
        export_model(str(path), output=tmp_path / "cache", progress=False)


@pytest.mark.parametrize("merges", [("q z",), ("Ġ nowhere", "t h"), ("th", "", "th e")])
def test_merges_of_pieces_that_are_no_tokens_are_left_out(tmp_path: Path, merges: tuple[str, ...]) -> None:
    """A vocabulary was cut and its merges were not; llama.cpp never comes to use those either."""
    whole = write_gguf(tmp_path / "whole.gguf", make("llama", {}))
    odd = write_gguf(tmp_path / "odd.gguf", make("llama", {}), merges=merges)
    texts = []
    for path in (whole, odd):
        write_tokenizer(path, tmp_path)
        texts.append(Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("the quiz, this then").ids)
    assert texts[0] == texts[1]
