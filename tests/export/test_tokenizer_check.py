"""A bundle's tokenizer gives the ids of the source's tokenizer, and the tokens of all files end a turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from infrs_export.bundle.added_tokens import add_missing_tokens
from infrs_export.bundle.companions import special_tokens
from infrs_export.bundle.tokenizer_check import match_tokenizer
from tiny_tokenizer import VOCAB, write_tokenizer
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import ByteLevel

from infrs.errors import SourceError

TEXT = "Hello,  World! <s> then</s> \n 12345 café"
LLAMA = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
BY_5 = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}
# Fields that tokenizer.json does not follow, and the ids that they put before and after a text.
CASES: dict[str, tuple[dict[str, Any], list[int], list[int]]] = {
    "nothing": ({}, [], []),
    "a class without fields": (LLAMA, [], []),
    "BOS by a class": (LLAMA | {"add_bos_token": True}, [0], []),
    "BOS and EOS by a class": (LLAMA | {"add_bos_token": True, "add_eos_token": True}, [0], [1]),
    "EOS, and BOS by default": (LLAMA | {"add_eos_token": True}, [0], [1]),
    "neither by a class": (LLAMA | {"add_bos_token": False}, [], []),
    "a class that reads no such fields": ({"add_bos_token": True}, [], []),
    "spaces before a text": ({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True}, [], []),
    "spaces before a text, by the general class": ({"add_prefix_space": True}, [], []),
    "no class": ({"tokenizer_class": None}, [], []),
    "an unknown class": ({"tokenizer_class": "NoTokenizer"}, [], []),
    "a class that makes other parts": ({"tokenizer_class": "Qwen2Tokenizer"}, [], []),
    "a class of transformers 5": (BY_5, [], []),
}
# Fields of BERT's classes, and the normalizer that they make of one that only cleans a text.
BERT: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {
    "nothing": ({"tokenizer_class": "BertTokenizerFast"}, {}),
    "lower case": ({"tokenizer_class": "BertTokenizerFast", "do_lower_case": True}, {"lowercase": True}),
    "accents": ({"tokenizer_class": "DistilBertTokenizer", "strip_accents": True}, {"strip_accents": True}),
    "Chinese": ({"tokenizer_class": None, "tokenize_chinese_chars": True}, {"handle_chinese_chars": True}),
    "all": (
        {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True, "strip_accents": False},
        {"lowercase": True, "strip_accents": False},
    ),
    "the general class": ({"do_lower_case": True}, {}),
    "the general class of transformers 5": (BY_5 | {"do_lower_case": True}, {}),
}


def folder(path: Path, **fields: Any) -> Path:
    path.mkdir()
    write_tokenizer(path)
    names = path / "tokenizer_config.json"
    names.write_text(json.dumps(json.loads(names.read_text()) | {"eos_token": "</s>"} | fields))
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return path


def ids(path: Path) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(path))
    return [tokenizer.encode(TEXT, add_special_tokens=special).ids for special in (True, False)]


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])  # for some types, transformers 5 ignores the class
@pytest.mark.parametrize("name", CASES)
def test_fields_change_the_tokenizer_as_in_transformers_4(tmp_path: Path, name: str, model_type: str) -> None:
    fields, first, last = CASES[name]
    source = folder(tmp_path / "source", **fields)
    (source / "config.json").write_text(json.dumps({"model_type": model_type}))
    path = source / "tokenizer.json"
    expected = Tokenizer.from_file(str(path))
    expected.pre_tokenizer = ByteLevel(add_prefix_space=fields.get("add_prefix_space", False))
    match_tokenizer(source, path, VOCAB)
    plain = expected.encode(TEXT).ids
    assert ids(path) == [[*first, *plain, *last], plain]


@pytest.mark.parametrize("name", BERT)
def test_fields_change_the_normalizer_of_bert(tmp_path: Path, name: str) -> None:
    fields, parts = BERT[name]
    source = folder(tmp_path / "source", **fields)
    path = source / "tokenizer.json"
    plain = {"handle_chinese_chars": False, "lowercase": False}
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.normalizer = BertNormalizer(**plain)
    tokenizer.save(str(path))
    match_tokenizer(source, path, VOCAB)
    made, text = Tokenizer.from_file(str(path)).normalizer, "Ünï 北京"
    assert made.normalize_str(text) == BertNormalizer(**(plain | parts)).normalize_str(text)


def test_tokenizer_of_the_training_stays(tmp_path: Path) -> None:
    """The class of transformers 5 would make none of these parts, which its version 4 writes for Llama 2."""
    source = folder(tmp_path / "source", **LLAMA)
    path = source / "tokenizer.json"
    written = json.loads(path.read_text())
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    own = {"normalizer": {"type": "Sequence", "normalizers": [prepend, replace]}, "pre_tokenizer": None}
    path.write_text(json.dumps(written | own))
    before = path.read_bytes()
    match_tokenizer(source, path, VOCAB)
    assert path.read_bytes() == before


def test_ids_that_no_tokenizer_file_can_give_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "source", split_special_tokens=True)
    with pytest.raises(SourceError, match=r"by the fields of tokenizer_config\.json"):
        match_tokenizer(source, source / "tokenizer.json", VOCAB)


_SHORT = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}
_LONG = {"strategy": {"Fixed": 1 << 40}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}


@pytest.mark.parametrize("field", [{"truncation": _SHORT}, {"padding": _LONG | {"pad_type_id": 0, "pad_token": "a"}}])
def test_a_bundle_neither_cuts_nor_pads(tmp_path: Path, field: dict[str, Any]) -> None:
    """Such a file may also ask for terabytes."""
    source = folder(tmp_path / "source")
    path = source / "tokenizer.json"
    before = ids(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | field))
    add_missing_tokens(source, path, VOCAB)
    match_tokenizer(source, path, VOCAB)
    assert ids(path) == before


@pytest.mark.parametrize("eos", [[1, -1], [1, 10**9], [1, 2**70], [1, True, "2", None, [2]], {"a": 1}])
def test_ids_that_are_no_tokens_end_nothing(tmp_path: Path, eos: object) -> None:
    source = folder(tmp_path / "source", chat_template="{{ messages }}")
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    assert special_tokens(source, VOCAB).eos == (1,)


def test_an_id_without_a_token_ends_a_turn_if_the_model_has_it(tmp_path: Path) -> None:
    source = folder(tmp_path / "source", chat_template="{{ messages }}")
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, VOCAB + 3, VOCAB + 8]}))
    assert special_tokens(source, VOCAB + 8).eos == (1, VOCAB + 3)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_ends_of_every_file_count(file: str, tiny_copy: Callable[[str], Path]) -> None:
    source = tiny_copy("ends")
    path = source / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [1, 9]}))
    assert {1, 2, 9} <= set(special_tokens(source, VOCAB).eos)
