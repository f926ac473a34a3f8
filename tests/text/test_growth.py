"""A tokenizer that multiplies texts or has many patterns is refused; those of real models are not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel

from infrs.text import tokenizer as ours
from infrs.text.bounds.growth import check_growth


def tokenizer(**parts: Any) -> Tokenizer:
    made = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
    for name, part in parts.items():
        setattr(made, name, part)
    return made


DOUBLE = normalizers.Replace("a", "aa")
HOSTILE = {
    "one replacement": {"normalizer": normalizers.Replace("a", "a" * 2000)},
    "a chain of replacements": {"normalizer": normalizers.Sequence([DOUBLE] * 30)},
    "nested sequences": {"normalizer": normalizers.Sequence([normalizers.Sequence([DOUBLE] * 6)] * 5)},
    "a pattern that matches nothing": {"normalizer": normalizers.Sequence([normalizers.Replace(Regex(""), "aaa")] * 8)},
    "bytes of bytes": {"pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.ByteLevel()] * 30)},
    "a decoder": {"decoder": decoders.Sequence([decoders.Replace("a", "aa")] * 30)},
    "many steps": {"pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Digits()] * 300)},
    "a long pattern": {"pre_tokenizer": pre_tokenizers.Split(Regex("a" * 70_000), "isolated")},
    "long patterns": {"normalizer": normalizers.Sequence([normalizers.Replace(Regex("a" * 1000), "")] * 70)},
    "a long prefix": {"normalizer": normalizers.Prepend("a" * 2000)},
    "a chain of prefixes": {"normalizer": normalizers.Sequence([normalizers.Prepend("aa")] * 30)},
    "a template that repeats the text": {"post_processor": processors.TemplateProcessing(single=["$A"] * 2000)},
    "such a template in a sequence": {
        "post_processor": processors.Sequence(
            [processors.ByteLevel(), processors.TemplateProcessing(single=["$A", "$A"])]
        )
    },
    "many added tokens": {
        "post_processor": processors.TemplateProcessing(single=["$A", *["b"] * 2000], special_tokens=[("b", 1)])
    },
}
REAL = {
    "none": {},
    "SentencePiece": {
        "normalizer": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        "decoder": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
    },
    "ALBERT": {
        "normalizer": normalizers.Sequence(
            [normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
        )
    },
    "GPT-2": {"pre_tokenizer": pre_tokenizers.ByteLevel(), "decoder": decoders.ByteLevel()},
    "BERT": {
        "normalizer": normalizers.BertNormalizer(),
        "post_processor": processors.TemplateProcessing(single="b $A b", special_tokens=[("b", 1)]),
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tokenizer_without_bounds_is_refused(name: str) -> None:
    hostile = tokenizer(**HOSTILE[name])
    with pytest.raises(ValueError, match="is the maximum"):
        check_growth(hostile)
    with pytest.raises(ValueError, match="is the maximum"):
        ours.Tokenizer(hostile.to_str())


@pytest.mark.parametrize("name", REAL)
def test_tokenizer_of_a_real_family_is_accepted(name: str) -> None:
    ours.Tokenizer(tokenizer(**REAL[name]).to_str())


def test_replacements_of_a_precompiled_map_count() -> None:
    """The map: the size of its table, the table, and the texts, each with a final zero byte."""
    data = (4).to_bytes(4, "little") + bytes(4) + b"a" * 2000 + b"\0"
    definition = json.loads(tokenizer().to_str())
    definition["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}
    with pytest.raises(ValueError, match="2000 times"):
        ours.Tokenizer(json.dumps(definition))
