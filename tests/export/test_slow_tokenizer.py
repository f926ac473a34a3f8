"""A folder with the vocabulary of a slow tokenizer gets its tokenizer.json, unless a file is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from infrs_export.bundle.slow_tokenizer import convert_tokenizer
from infrs_export.parity.text import TEXT
from tiny_tokenizer import write_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from infrs.errors import SourceError


def byte_level(folder: Path) -> Tokenizer:
    write_tokenizer(folder)
    path = folder / "tokenizer.json"
    tokenizer, model = Tokenizer.from_file(str(path)), json.loads(path.read_text())["model"]
    path.unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return tokenizer


def word_pieces(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator([TEXT], trainers.WordPieceTrainer(special_tokens=special, show_progress=False))
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=list(ids.items())
    )
    vocab = tokenizer.get_vocab()
    (folder / "vocab.txt").write_text("\n".join([*sorted(vocab, key=vocab.__getitem__), ""]))
    return tokenizer


# The files, the model's type, and the fields of tokenizer_config.json.
CASES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "BERT": (word_pieces, "bert", {}),
    "DistilBERT": (word_pieces, "distilbert", {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True}),
    "GPT-2": (byte_level, "gpt2", {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>", "bos_token": "</s>"}),
    "GPT-2's tokenizer of another model": (byte_level, "llama", {"tokenizer_class": "GPT2Tokenizer"}),
}


@pytest.mark.parametrize("name", CASES)
def test_ids_are_those_of_the_vocabulary(name: str, tmp_path: Path) -> None:
    make, model_type, fields = CASES[name]
    expected = make(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
    convert_tokenizer(tmp_path, tmp_path / "tokenizer.json")
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (TEXT, "Hello,  World! café\n\n12345", ""):
        assert made.encode(text).ids == expected.encode(text).ids
        assert made.encode(text, "a pair").ids == expected.encode(text, "a pair").ids


# The model's type, the files that it has, and the words of the refusal.
INCOMPLETE: dict[str, tuple[str, list[str], str]] = {
    "no files": ("bert", [], "neither tokenizer.model, vocab.txt nor vocab.json and merges.txt"),
    "no merges": ("qwen2", ["vocab.json"], "neither tokenizer.model, vocab.txt nor vocab.json and merges.txt"),
    "the files of another class": ("bert", ["vocab.json", "merges.txt"], "BertTokenizer needs vocab.txt"),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_incomplete_vocabulary_is_refused(name: str, tmp_path: Path) -> None:
    """transformers makes a tokenizer of up to five tokens of these files."""
    model_type, files, words = INCOMPLETE[name]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    for file in files:
        (tmp_path / file).write_text("{}")
    with pytest.raises(SourceError, match=words):
        convert_tokenizer(tmp_path, tmp_path / "tokenizer.json")
    assert not (tmp_path / "tokenizer.json").exists()
