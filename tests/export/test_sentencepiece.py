"""A folder with a SentencePiece model alone: its bundle tokenises as the sentencepiece library does."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infrs_export.bundle.added_tokens import add_missing_tokens
from infrs_export.bundle.slow_tokenizer import check_converted, convert_tokenizer
from infrs_export.bundle.tokenizer_file import check_tokenizer
from infrs_export.parity.text import TEXT
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer, sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer

from infrs.errors import SourceError

PIECES = 420
LLAMA = {
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
}
# Options of the trainer.
MODELS: dict[str, dict[str, Any]] = {
    "Llama": {"model_type": "bpe", **LLAMA},
    "Gemma": {
        "model_type": "bpe",
        **LLAMA,
        "add_dummy_prefix": False,
        "pad_id": 0,
        "eos_id": 1,
        "bos_id": 2,
        "unk_id": 3,
    },
    "user-defined pieces": {
        "model_type": "bpe",
        **LLAMA,
        "user_defined_symbols": ["<|im_start|>", "<|im_end|>", "\u2581\u2581"],
        "control_symbols": ["<ctl>"],
    },
    "unigram": {"model_type": "unigram", **LLAMA},
    "unigram, NFKC": {"model_type": "unigram"},
    "BPE, NFKC, bytes": {"model_type": "bpe", "byte_fallback": True},
    "lower case": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc_cf"},
}
BATTERY = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces   three\t tab \n\n newline \r\n ",
    " lead",
    "trail ",
    "1 12 123 12345.67 \u0663 \u00bd",
    "emoji \U0001f600\U0001f468\u200d\U0001f469 e\u0301 \u4e2d\u6587 \ufb01 \u00c5",
    "def f(x):\n    return x**2\n\n\tpass\n",
    "a\u2581b \u2581 \u2581\u2581",
]


@cache
def trained(name: str) -> bytes:
    model = io.BytesIO()
    lines = [*TEXT.splitlines(), *BATTERY[2:]] * 2
    options = {"vocab_size": PIECES, "hard_vocab_limit": False, "minloglevel": 2, **MODELS[name]}
    SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **options)
    return model.getvalue()


def folder_of(folder: Path, model: bytes, names: dict[str, Any]) -> Path:
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


def converted(folder: Path, num_rows: int = PIECES + 64) -> Tokenizer:
    """What the exporter does with the folder."""
    path = folder / "tokenizer.json"
    convert_tokenizer(folder, path)
    check_tokenizer(path)
    add_missing_tokens(folder, path, num_rows)
    check_converted(folder, path)
    return Tokenizer.from_file(str(path))


@pytest.mark.parametrize("name", MODELS)
def test_ids_and_text_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    processor = SentencePieceProcessor(model_proto=trained(name))
    made = converted(folder_of(tmp_path, trained(name), {"tokenizer_class": "LlamaTokenizer"}))
    for text in [*BATTERY, *(MODELS[name].get("user_defined_symbols", [])), "a<|im_end|>b <|im_end|>"]:
        wanted = processor.encode(text)
        assert made.encode(text, add_special_tokens=False).ids == wanted, text
        assert made.encode(text).ids == [processor.bos_id(), *wanted]
        if processor.unk_id() not in wanted:  # which the library shows as a sign of its own
            assert made.decode(wanted) == processor.decode(wanted)


@pytest.mark.parametrize("name", ["Llama", "unigram"])
def test_random_texts_get_the_ids_of_the_library(name: str, tmp_path: Path) -> None:
    processor = SentencePieceProcessor(model_proto=trained(name))
    made = converted(folder_of(tmp_path, trained(name), {}))
    pieces = st.sampled_from([" ", "  ", "\n", "the", "a", "0", "\u2581", "\u00e9", "\U0001f642"])
    characters = st.characters(codec="utf-8", exclude_characters="\0")

    @settings(max_examples=200, deadline=None)
    @given(st.lists(pieces | characters, max_size=24).map("".join))
    def same(text: str) -> None:
        ids, wanted = made.encode(text, add_special_tokens=False).ids, processor.encode(text)
        if name == "unigram":  # two orders of the same pieces, as in a run of spaces, have one probability
            ids, wanted = sorted(ids), sorted(wanted)
        assert ids == wanted

    same()


# Fields of tokenizer_config.json, and the pieces before and after a text.
ENDS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "by class": ({"tokenizer_class": "LlamaTokenizer"}, ["<s>"], []),
    "no class": ({}, ["<s>"], []),
    "any class": ({"tokenizer_class": "PreTrainedTokenizerFast"}, [], []),
    "none": ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, [], []),
    "both": ({"add_bos_token": True, "add_eos_token": True}, ["<s>"], ["</s>"]),
    "another BOS": ({"bos_token": "</s>", "eos_token": {"content": "</s>"}}, ["</s>"], []),
}


@pytest.mark.parametrize("name", ENDS)
def test_ends_of_a_text_are_those_of_the_fields(name: str, tmp_path: Path) -> None:
    names, before, after = ENDS[name]
    made = converted(folder_of(tmp_path, trained("Llama"), names))
    assert made.encode("Hello").tokens == [*before, *made.encode("Hello", add_special_tokens=False).tokens, *after]


@pytest.mark.parametrize("legacy", [True, False])
def test_added_and_control_tokens_have_one_id(legacy: bool, tmp_path: Path) -> None:
    first = SentencePieceProcessor(model_proto=trained("user-defined pieces")).get_piece_size()
    names = {"legacy": legacy, "added_tokens_decoder": {str(first): {"content": "<|new|>", "special": True}}}
    made = converted(folder_of(tmp_path, trained("user-defined pieces"), names))
    for token in ("<s>", "</s>", "<ctl>", "<|im_end|>", "<|new|>"):
        tokens = made.encode(f"a{token}b", add_special_tokens=False).tokens
        is_piece = token == "<|im_end|>"  # without a space after it, as in the library
        assert tokens == ["\u2581a", token, "b" if is_piece or not legacy else "\u2581b"]
    assert made.token_to_id("<|new|>") == first


def test_token_beyond_the_rows_of_the_model_is_left_out(tmp_path: Path) -> None:
    num_rows = SentencePieceProcessor(model_proto=trained("Llama")).get_piece_size()
    names = {"added_tokens_decoder": {str(num_rows): {"content": "[PAD]"}}, "pad_token": "[PAD]"}
    made = converted(folder_of(tmp_path, trained("Llama"), names), num_rows)
    assert made.get_vocab_size() == num_rows


def test_new_name_of_a_piece_is_kept(tmp_path: Path) -> None:
    names = {"added_tokens_decoder": {"3": {"content": "<|turn|>", "special": True}}}
    made = converted(folder_of(tmp_path, trained("user-defined pieces"), names))
    assert made.token_to_id("<|turn|>") == 3
    assert made.token_to_id("<ctl>") is None


def test_first_text_with_other_ids_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, trained("Llama"), {})
    made = converted(folder)
    made.add_tokens([AddedToken("four", normalized=False)])
    made.save(str(folder / "tokenizer.json"))
    with pytest.raises(SourceError, match=r"gives 'two  spaces   three    four .*' other tokens than SentencePiece"):
        check_converted(folder, folder / "tokenizer.json")


def test_piece_that_no_model_needs_is_refused(tmp_path: Path) -> None:
    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(trained("Llama"))
    proto.pieces[-1].piece = "x" * 5000
    with pytest.raises(SourceError, match="has a piece of 5000 characters, but 4096 is the maximum"):
        converted(folder_of(tmp_path, proto.SerializeToString(), {}))


DAMAGED = {
    "empty": b"",
    "text": b"Zm9v 0\nYmFy 1\n",
    "cut": lambda model: model[: len(model) // 2],
    "no pieces": b"\x12\x00",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_model_is_refused_in_one_line(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damage: Any = DAMAGED[name]
    folder = folder_of(tmp_path, damage(trained("Llama")) if callable(damage) else damage, {})
    with pytest.raises(SourceError, match=r"tokenizer\.model is no readable SentencePiece model") as caught:
        converted(folder)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
