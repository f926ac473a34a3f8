"""Tiny embedding models with random weights, laid out as sentence-transformers lays out its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny_config import SIZES
from tiny_tokenizer import SPECIAL, VOCAB, write_tokenizer
from tokenizers import Tokenizer, processors
from transformers import AutoConfig, AutoModel

_PACKAGE = "sentence_transformers.models."
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    **SIZES,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "mpnet": {"pad_token_id": 1},
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 8},
    "gemma3_text": {  # as EmbeddingGemma, with bidirectional attention
        "num_key_value_heads": 2,
        "head_dim": 16,
        "use_bidirectional_attention": True,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "modernbert": {"pad_token_id": 1, "local_attention": 8, "global_attn_every_n_layers": 2},
    "xlm-roberta": {"pad_token_id": 1},
}


def make_embedding_model(
    folder: Path,
    architecture: str = "bert",
    *,
    pooling: str = "mean_tokens",
    normalize: bool = True,
    dense: int = 0,
    activation: str = "modules.activation.Tanh",
    transformer: dict[str, Any] | None = None,
    prompts: dict[str, Any] | None = None,
) -> Path:
    """Write a model into `folder`. dense: numbers in its vectors if a Dense module makes them."""
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(architecture, **(_COMMON | CONFIGS[architecture]))).save_pretrained(
        folder
    )
    write_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ends = [(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    tokenizer.enable_truncation(16)  # as published tokenizers have it; a server must not truncate
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    modules += [("Dense", "2_Dense")] * bool(dense) + [("Normalize", "3_Normalize")] * normalize
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": _PACKAGE + kind} for i, (kind, path) in enumerate(modules)
    ]
    write(folder / "modules.json", listed)
    modes = dict.fromkeys(f"pooling_mode_{mode}" for mode in ("cls_token", "mean_tokens", "max_tokens", "lasttoken"))
    modes = {mode: mode == f"pooling_mode_{pooling}" for mode in modes} | {f"pooling_mode_{pooling}": True}
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 64, **modes})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 48} if transformer is None else transformer)
    write(folder / "config_sentence_transformers.json", prompts or {})
    if dense:
        described = {"in_features": 64, "out_features": dense, "bias": True}
        write(folder / "2_Dense" / "config.json", described | {"activation_function": f"torch.nn.{activation}"})
        weights = {"linear.weight": torch.randn(dense, 64) / 8, "linear.bias": torch.randn(dense) / 8}
        save_file(weights, folder / "2_Dense" / "model.safetensors")
    return folder


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
