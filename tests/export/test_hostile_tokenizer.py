"""A tokenizer that is made to do harm is refused before it runs on a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from infrs_export.bundle.tokenizer_file import check_tokenizer, open_tokenizer, token_ids
from infrs_export.sources.gguf.vocabulary import checked_vocabulary
from tiny_tokenizer import VOCAB, write_tokenizer

from infrs.errors import SourceError

_DOUBLE = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
_TEXT = {"Sequence": {"id": "A", "type_id": 0}}
_TOKEN = {"id": VOCAB, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}

_EXPONENTIAL = {"type": "Split", "pattern": {"Regex": "(.+.+)+y$"}, "behavior": "Isolated", "invert": False}


def template(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {}}


# Parts of tokenizer.json, and words of the sentence that refuses them.
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a chain of replacements": ({"normalizer": {"type": "Sequence", "normalizers": [_DOUBLE] * 40}}, "times as long"),
    "a vast replacement": ({"normalizer": _DOUBLE | {"content": "e" * (1 << 20)}}, "times as long"),
    "a vast prefix": ({"normalizer": {"type": "Prepend", "prepend": "e" * (1 << 20)}}, "times as long"),
    "a decoder": ({"decoder": _DOUBLE | {"content": "e" * (1 << 20)}}, "its decoder makes a text"),
    "a template that repeats the text": ({"post_processor": template([_TEXT] * 5000)}, "repeats a text 5000 times"),
    "a long added token": ({"added_tokens": [_TOKEN | {"content": "e" * 5000}]}, "a token of 5000 characters"),
    "a panic while it is read": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        "not a readable tokenizer",
    ),
    "a pattern that takes exponential time": (
        {"pre_tokenizer": _EXPONENTIAL},
        "its regular expression '(.+.+)+y$' repeats something that can match in several ways",
    ),
}


def change(folder: Path, **parts: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tokenizer_is_refused_in_one_line(
    name: str, tiny_copy: Callable[[str], Path], said: Callable[[Path], str]
) -> None:
    parts, words = HOSTILE[name]
    folder = tiny_copy("hostile")
    change(folder, **parts)
    assert words in said(folder)


def test_a_panic_while_it_runs_is_an_error(tiny_copy: Callable[[str], Path]) -> None:
    tokenizer = open_tokenizer(change(tiny_copy("hostile"), pre_tokenizer=_EXPONENTIAL))
    with pytest.raises(SourceError, match="cannot tokenise a text"):
        token_ids(tokenizer, "a" * 40 + "yb")


@pytest.mark.parametrize("part", ["vocab", "merges", "added_tokens"])
def test_more_items_than_any_model_has_are_refused(part: str, tmp_path: Path) -> None:
    """The limit is lowered, because a file with the real number of items takes seconds to write."""
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    definition = json.loads(path.read_text())
    of = definition if part == "added_tokens" else definition["model"]
    check_tokenizer(path)
    with pytest.raises(SourceError, match="is the maximum"):
        check_tokenizer(path, most=len(of[part]) - 1)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "BPE", "vocab": {"a": 0, "a" * 5000: 1}, "merges": []},
        {"type": "WordLevel", "vocab": {"a": 0, "a" * 5000: 1}, "unk_token": "a"},
        {"type": "Unigram", "vocab": [["a", 0.0], ["a" * 5000, -1.0]], "unk_id": 0},
    ],
)
def test_long_token_is_refused_in_every_kind_of_vocabulary(model: dict[str, Any], tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    with pytest.raises(SourceError, match="a token of 5000 characters"):
        check_tokenizer(change(tmp_path, model=model))


def test_dropout_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    with pytest.raises(SourceError, match=r"dropout is 0\.1"):
        check_tokenizer(change(tmp_path, model=model | {"dropout": 0.1}))


def test_long_token_of_a_gguf_file_is_refused() -> None:
    """The time to find its merges grows with the square of its length."""
    tokens = {"tokenizer.ggml.tokens": ["a", "a" * 5000], "tokenizer.ggml.token_type": [1, 1]}
    with pytest.raises(SourceError, match="a token of 5000 characters"):
        checked_vocabulary({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0.0, 0.0], **tokens})
