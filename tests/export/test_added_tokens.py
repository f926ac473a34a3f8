"""Tokens from files other than tokenizer.json get AutoTokenizer's ids, and end turns if they are eos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from infrs_export.bundle.added_tokens import add_missing_tokens
from infrs_export.bundle.companions import special_tokens
from tiny_tokenizer import VOCAB, write_tokenizer
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from infrs.errors import SourceError

TEXT = "a<|turn|> b <|call|>c<extra>  d</s>"


def token(content: str, **flags: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    return {"__type": "AddedToken", "content": content, "special": True, **plain, **flags}


BY_5 = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}
# What the files say -> which tokens come to be added, from VOCAB on.
CASES: dict[str, tuple[dict[str, dict[str, Any]], list[str]]] = {
    "nothing": ({}, []),
    "decoder": (
        {
            "tokenizer_config": {
                "added_tokens_decoder": {str(VOCAB): token("<|turn|>"), str(VOCAB + 1): token("<|call|>", lstrip=True)}
            }
        },
        ["<|turn|>", "<|call|>"],
    ),
    "decoder with those of tokenizer.json": (
        {
            "tokenizer_config": {
                "added_tokens_decoder": {"1": token("</s>"), str(VOCAB): token("<extra>", special=False)}
            }
        },
        ["<extra>"],
    ),
    "eos alone": ({"tokenizer_config": {"eos_token": "<|turn|>"}}, ["<|turn|>"]),
    "eos with flags": ({"tokenizer_config": {"eos_token": token("<|turn|>", rstrip=True)}}, ["<|turn|>"]),
    "additional": (
        {"tokenizer_config": {"additional_special_tokens": ["<|turn|>", "<|call|>"]}},
        ["<|turn|>", "<|call|>"],
    ),
    "extra": ({"tokenizer_config": {"extra_special_tokens": {"call_token": "<|call|>"}}}, ["<|call|>"]),
    "extra, as a list": (
        {"tokenizer_config": BY_5 | {"extra_special_tokens": ["<|call|>", "<|turn|>"]}},
        ["<|call|>", "<|turn|>"],
    ),
    "extra, as a list of objects": (
        {"tokenizer_config": BY_5 | {"extra_special_tokens": [token("<|call|>", lstrip=True)]}},
        ["<|call|>"],
    ),
    "names of a model": (
        {
            "tokenizer_config": BY_5
            | {"model_specific_special_tokens": {"eot_token": "<|turn|>"}, "eos_token": "<extra>"}
        },
        ["<extra>", "<|turn|>"],
    ),
    "names of a model, twice": (
        {
            "tokenizer_config": BY_5
            | {"model_specific_special_tokens": {"eot_token": "<|turn|>"}, "eot_token": "<|turn|>"}
            | {"extra_special_tokens": ["<|call|>"], "pad_token": "<extra>"}
        },
        ["<extra>", "<|turn|>", "<|call|>"],
    ),
    "a name outside the roles": ({"tokenizer_config": {"image_token": "<|call|>"}}, ["<|call|>"]),
    "extra in the map": (
        {"special_tokens_map": {"extra_special_tokens": [{"content": "<|call|>", "lstrip": True}, "<|turn|>"]}},
        ["<|call|>", "<|turn|>"],
    ),
    "pad and eos": ({"tokenizer_config": {"pad_token": "<extra>", "eos_token": "<|turn|>"}}, ["<|turn|>", "<extra>"]),
    "added_tokens.json": ({"added_tokens": {"<|call|>": VOCAB + 1, "<|turn|>": VOCAB}}, ["<|turn|>", "<|call|>"]),
    "special_tokens_map.json": (
        {"special_tokens_map": {"eos_token": token("<|turn|>"), "additional_special_tokens": ["<|call|>"]}},
        ["<|turn|>", "<|call|>"],
    ),
    "both legacy files": (
        {"added_tokens": {"<|turn|>": VOCAB}, "special_tokens_map": {"eos_token": "<|turn|>", "pad_token": "<extra>"}},
        ["<|turn|>", "<extra>"],
    ),
    "a decoder, so the map does not count": (
        {"tokenizer_config": {"added_tokens_decoder": {}}, "special_tokens_map": {"pad_token": "<extra>"}},
        [],
    ),
    "a piece of the vocabulary": ({"tokenizer_config": {"additional_special_tokens": ["er"]}}, []),
}


def write(folder: Path, files: dict[str, dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    write_tokenizer(folder)
    files = {**files, "tokenizer_config": {"eos_token": "</s>", **files.get("tokenizer_config", {})}}
    for name, fields in files.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | fields))
    return folder


@pytest.mark.parametrize("name", CASES)
def test_ids_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    files, added = CASES[name]
    reference = AutoTokenizer.from_pretrained(write(tmp_path / "reference", files))
    folder = write(tmp_path / "bundle", files)
    before = (folder / "tokenizer.json").read_bytes()
    add_missing_tokens(folder, folder / "tokenizer.json", VOCAB + 8)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab() == reference.get_vocab()
    assert [tokenizer.id_to_token(VOCAB + i) for i in range(len(added))] == added
    for text in (TEXT, "her er water", ""):
        assert tokenizer.encode(text).ids == reference(text).input_ids
    ids = tokenizer.encode(TEXT).ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == reference.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    if tokenizer.to_str() == Tokenizer.from_buffer(before).to_str():
        assert (folder / "tokenizer.json").read_bytes() == before


def test_a_token_without_a_row_is_left_out(tmp_path: Path) -> None:
    """A padding token was added for training, and the embedding was not made larger."""
    folder = write(tmp_path, {"tokenizer_config": {"eos_token": "<|turn|>", "pad_token": "<pad>"}})
    add_missing_tokens(folder, folder / "tokenizer.json", VOCAB + 1)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [tokenizer.token_to_id(name) for name in ("<|turn|>", "<pad>")] == [VOCAB, None]


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"eos_token": "<|turn|>"}},
        {"tokenizer_config": {"added_tokens_decoder": {str(VOCAB): token("<|turn|>")}, "eos_token": "<|turn|>"}},
        {"added_tokens": {"<|turn|>": VOCAB}, "generation_config": {"eos_token_id": [1, VOCAB]}},
        {"special_tokens_map": {"eos_token": token("<|turn|>")}, "tokenizer_config": {"eos_token": None}},
        {"tokenizer_config": {"extra_special_tokens": {"eot_token": "<|turn|>"}}},
        {"tokenizer_config": BY_5 | {"model_specific_special_tokens": {"eot_token": "<|turn|>"}}},
        {"tokenizer_config": BY_5 | {"eot_token": "<|turn|>"}},
        {
            "tokenizer_config": BY_5 | {"extra_special_tokens": ["<|turn|>"]},
            "generation_config": {"eos_token_id": [1, VOCAB]},
        },
    ],
)
def test_an_added_token_ends_a_turn(tmp_path: Path, files: dict[str, dict[str, Any]]) -> None:
    folder = write(tmp_path, {"config": {"eos_token_id": 1}, **files})
    add_missing_tokens(folder, folder / "tokenizer.json", VOCAB + 8)
    assert {1, VOCAB} <= set(special_tokens(folder, VOCAB + 8).eos)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"added_tokens": {"<|turn|>": VOCAB + 4}}, rf"'<\|turn\|>' id {VOCAB + 4}, but .* it gets id {VOCAB};"),
        ({"tokenizer_config": {"added_tokens_decoder": {"x": token("<|turn|>")}}}, "id 'x'"),
        ({"tokenizer_config": {"added_tokens_decoder": {str(VOCAB): 7}}}, "give token 7 id"),
    ],
)
def test_contradicting_token_files_are_refused(tmp_path: Path, files: dict[str, dict[str, Any]], words: str) -> None:
    folder = write(tmp_path, files)
    with pytest.raises(SourceError, match=words):
        add_missing_tokens(folder, folder / "tokenizer.json", VOCAB + 8)
