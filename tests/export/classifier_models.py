"""Tiny sequence classifiers with random weights, as transformers and sentence-transformers publish them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tiny_config import SIZES
from tiny_tokenizer import SPECIAL, VOCAB, write_tokenizer
from tokenizers import Tokenizer, processors
from transformers import AutoConfig, AutoModelForSequenceClassification

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    **SIZES,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 1,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
    "distilbert": {"dim": 64, "hidden_dim": 96, "n_heads": 4, "n_layers": 2},
    "modernbert": {"cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2},
    "deberta-v2": {
        "type_vocab_size": 0,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pooler_hidden_size": 64,
    },
    "electra": {"embedding_size": 64},
    "albert": {"embedding_size": 32, "initializer_range": 0.2},
    "mpnet": {},
}


def make_classifier(folder: Path, architecture: str = "bert", *, num_labels: int = 1, **config: Any) -> Path:
    """Write a model into `folder`. config: more fields of config.json."""
    torch.manual_seed(3)
    own = AutoConfig.for_model(architecture, **(_COMMON | CONFIGS[architecture]), num_labels=num_labels)
    AutoModelForSequenceClassification.from_config(own).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    write_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ends = [(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=ends
    )
    tokenizer.enable_truncation(16)  # as published tokenizers have it; a server must not truncate
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
