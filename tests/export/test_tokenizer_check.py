"""A bundle's tokenizer gives the ids of the source's own class, and the tokens of all files end a turn."""

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
from transformers import AutoTokenizer

from infrs.errors import SourceError

TEXT = "Hello,  World! <s> then</s> \n 12345 café"
LLAMA = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
# Settings that tokenizer.json does not have, and whether they change the ids.
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, False),
    "BOS by a class": (LLAMA, True),
    "BOS and EOS by a class": (LLAMA | {"add_bos_token": True, "add_eos_token": True}, True),
    "neither by a class": (LLAMA | {"add_bos_token": False}, False),
    "a class that reads no such fields": ({"add_bos_token": True}, False),
    "spaces before a text": ({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True}, True),
    "a class of transformers 5": ({"tokenizer_class": "TokenizersBackend"}, False),
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


@pytest.mark.parametrize("name", CASES)
def test_ids_are_those_of_the_class(tmp_path: Path, name: str) -> None:
    fields, changes = CASES[name]
    source = folder(tmp_path / "source", **fields)
    path = source / "tokenizer.json"
    before = ids(path)
    match_tokenizer(source, path, VOCAB)
    assert (ids(path) != before) == changes
    if "5" not in name:
        own = AutoTokenizer.from_pretrained(source)
        assert ids(path) == [own(TEXT, add_special_tokens=special).input_ids for special in (True, False)]


def test_ids_that_no_tokenizer_file_can_give_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "source", split_special_tokens=True)
    with pytest.raises(SourceError, match="other tokens than PreTrainedTokenizerFast"):
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
