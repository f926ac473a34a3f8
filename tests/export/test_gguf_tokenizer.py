"""llama.cpp, run on the same files, is the reference: token for token the same ids."""

from __future__ import annotations

import http.client
import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gguf
import numpy as np
import pytest
import xllamacpp
from hypothesis import given, settings
from hypothesis import strategies as st
from infrs_export.sources.demo import find_gguf
from infrs_export.sources.gguf.tokenizer import write_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from infrs.errors import SourceError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces   three\t tab \n\n newline \r\n ",
    "1 12 123 1234 12345.67 ٣٤ ½ x2y3",
    "it's I'LL we'd 'sx ''' they've",
    "emoji 😀👨‍👩‍👧‍👦🇩🇪 é e\u0301",
    "中文字符 日本語テスト 한국어 ภาษาไทย עברית العربية हिन्दी",
    'def f(x: int) -> int:\n    return x**2 + 1  # "quoted"\n\n\nclass A:\n\tpass\n',
    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
    "a<|im_end|>b <|im_end|> <|im_end|><|im_start|>",
    "<|im_star <|im_end| >",
    "nul \x00 bell \x07 bom \ufeff nbsp \u00a0 ideographic \u3000 zero\u200bwidth",
    "unreachable xunreachable unreachable!",
]
# Characters that every Unicode table in question knows: one of Unicode 16 is a letter to llama.cpp only.
CHARACTERS = st.characters(codec="utf-8").filter(lambda c: unicodedata.category(c) not in ("Cn", "Co"))
FRAGMENTS = st.sampled_from(
    [
        "<|im_start|>",
        "<|im_end|>",
        "<|",
        " ",
        "  ",
        "\n",
        "\t",
        "'s",
        "'LL",
        "1",
        "234",
        "the",
        "unreachable",
        "...",
        "é",
    ]
)
RANDOM_TEXT = st.lists(st.one_of(FRAGMENTS, CHARACTERS, st.text(CHARACTERS, max_size=8)), max_size=12).map("".join)

Tokenize = Callable[[str], list[int]]


def llama_cpp(path: Path) -> tuple[xllamacpp.Server, Tokenize]:
    """llama.cpp's own server on a model file, and its tokenizer: BOS as the file says, special tokens parsed."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = 64, 32, 32, 1
    params.warmup, params.fit_params, params.port, params.verbosity = False, False, 0, 0
    server = xllamacpp.Server(params)

    def tokenize(text: str) -> list[int]:
        body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
        connection = http.client.HTTPConnection(urlsplit(server.listening_address).netloc)
        connection.request("POST", "/tokenize", body)
        ids: list[int] = json.load(connection.getresponse())["tokens"]
        connection.close()
        return ids

    return server, tokenize


def write_gguf(path: Path, metadata: dict[str, Any], vocab_size: int | None = None) -> None:
    """A one-layer llama of zeros around a tokenizer: what llama.cpp's server asks before it tokenises."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    adders = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, list: writer.add_array}
    adders[float] = writer.add_float32
    for key, value in metadata.items():
        adders[type(value)](key if key.startswith("general.") else f"tokenizer.{key}", value)
    square = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    shapes = {f"blk.0.{name}.weight": (32, 32) for name in square}
    shapes |= {f"blk.0.{name}.weight": (32,) for name in ("attn_norm", "ffn_norm")} | {"output_norm.weight": (32,)}
    shapes["token_embd.weight"] = (vocab_size or len(metadata["ggml.tokens"]), 32)
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def trained(
    pre_tokenizer: pre_tokenizers.PreTokenizer, special: list[str], alphabet: list[str]
) -> tuple[list[str], list[str]]:
    """Tokens and merges of a small BPE of the test texts and of this file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    texts = [text.replace("\0", "") for text in TEXTS]  # llama.cpp ends a token at a NUL
    tokenizer.train_from_iterator([*texts * 3, Path(__file__).read_text(encoding="utf-8")], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [" ".join(pair) for pair in model["merges"]]


def byte_level_metadata(pre: str) -> dict[str, Any]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokens, merges = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), special, alphabet)
    reachable = {"unreachable", "Ġunreachable"}
    merges = [merge for merge in merges if merge.replace(" ", "") not in reachable]
    tokens += [*sorted(reachable - set(tokens)), "<user>"]
    return {
        "ggml.model": "gpt2",
        "ggml.pre": pre,
        "ggml.tokens": tokens,
        "ggml.token_type": [CONTROL] * 3 + [NORMAL] * (len(tokens) - 4) + [USER_DEFINED],
        "ggml.merges": merges,
        "ggml.bos_token_id": 1,
        "ggml.eos_token_id": 0,
    }


def sentencepiece_metadata(*, add_space_prefix: bool) -> dict[str, Any]:
    special = ["<unk>", "<|im_start|>", "<|im_end|>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁▁", "▁▁▁▁"]
    tokens, _ = trained(pre_tokenizers.Metaspace(), special, [])
    count = len(tokens)
    return {
        "ggml.model": "llama",
        "ggml.pre": "default",
        "ggml.tokens": tokens,
        "ggml.scores": [0.0] * 259 + [-float(rank) for rank in range(count - 259)],
        "ggml.token_type": [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (count - 259),
        "ggml.bos_token_id": 1,
        "ggml.eos_token_id": 2,
        "ggml.unknown_token_id": 0,
        "ggml.add_space_prefix": add_space_prefix,
    }


BYTE_LEVEL = [
    "default", "gpt-2", "phi-2", "olmo", "smollm", "starcoder", "refact", "llama-bpe", "dbrx", "smaug-bpe", "qwen2",
    "glm4", "chatglm-bpe",
]  # fmt: skip


@pytest.fixture(scope="module", params=["demo", *BYTE_LEVEL, "spm", "spm-no-prefix"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tokenizer, Tokenize]]:
    """The written tokenizer and llama.cpp's, of one file."""
    directory = tmp_path_factory.mktemp(request.param)
    path = find_gguf(lambda: None) if request.param == "demo" else directory / "model.gguf"
    if request.param.startswith("spm"):
        write_gguf(path, sentencepiece_metadata(add_space_prefix=request.param == "spm"))
    elif request.param != "demo":
        write_gguf(path, byte_level_metadata(request.param))
    write_tokenizer(path, directory)
    server, tokenize = llama_cpp(path)
    yield Tokenizer.from_file(str(directory / "tokenizer.json")), tokenize
    del server


def test_ids_are_those_of_llama_cpp(both: tuple[Tokenizer, Tokenize]) -> None:
    ours, reference = both

    def check(text: str) -> None:
        if isinstance(ours.normalizer, normalizers.NFC):
            text = unicodedata.normalize("NFC", text)  # llama.cpp leaves the model's own normalisation out
        assert ours.encode(text).ids == reference(text), text

    for text in TEXTS:
        check(text)
    settings(max_examples=150, deadline=None)(given(RANDOM_TEXT)(check))()


def test_demo_config(tmp_path: Path) -> None:
    write_tokenizer(find_gguf(lambda: None), tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
    }
    assert "<|im_start|>assistant" in (tmp_path / "chat_template.jinja").read_text()
    assert not (tmp_path / "generation_config.json").exists()  # it says nothing of sampling
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 49152
    ids = tokenizer.encode("<|im_start|>café 😀 12<|im_end|>").ids
    assert tokenizer.decode(ids) == "café 😀 12"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|im_start|>café 😀 12<|im_end|>"


def test_how_to_sample(tmp_path: Path) -> None:
    said = {"temp": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.01, "penalty_repeat": 1.1, "mirostat": 2}
    said |= {"penalty_last_n": 64, "sequence": "penalties;temperature"}
    sampling = {f"general.sampling.{name}": value for name, value in said.items()}
    write_gguf(tmp_path / "model.gguf", byte_level_metadata("smollm") | sampling)
    write_tokenizer(tmp_path / "model.gguf", tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "min_p": 0.01,
        "repetition_penalty": 1.1,
    }


@pytest.mark.parametrize(
    ("changes", "eos"),
    [
        ({}, "<|endoftext|>"),
        ({"chat_template": "{{ eos_token }}"}, "<|endoftext|>"),
        ({"chat_template": "{{ '<|im_end|>' }}"}, "<|im_end|>"),
        ({"chat_template": "a template without a known end", "ggml.eot_token_id": 1}, "<|im_start|>"),
    ],
)
def test_eos_is_what_ends_a_turn(changes: dict[str, Any], eos: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", byte_level_metadata("smollm") | changes)
    write_tokenizer(tmp_path / "model.gguf", tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == eos


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ggml.pre": "never-heard-of"}, "'never-heard-of' is none of"),
        ({"ggml.model": "t5"}, "of kind 't5'"),
        ({"ggml.tokens": ["a", "a"], "ggml.token_type": [1, 1]}, "names a token twice"),
    ],
)
def test_unknown_tokenizer_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", byte_level_metadata("smollm") | changes)
    with pytest.raises(SourceError, match=message):
        write_tokenizer(tmp_path / "model.gguf", tmp_path)


@pytest.mark.parametrize("key", ["ggml.pre", "ggml.tokens", "ggml.token_type", "ggml.merges", "ggml.model"])
def test_missing_key_is_named(key: str, tmp_path: Path) -> None:
    metadata = byte_level_metadata("smollm")
    tokens = metadata["ggml.tokens"]
    del metadata[key]
    write_gguf(tmp_path / "model.gguf", metadata, vocab_size=len(tokens))
    with pytest.raises(SourceError, match=f"tokenizer.{key}"):
        write_tokenizer(tmp_path / "model.gguf", tmp_path)


def test_invalid_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"not a model at all" * 9)
    with pytest.raises(SourceError, match="is not a GGUF file"):
        write_tokenizer(tmp_path / "model.gguf", tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        write_tokenizer(tmp_path / "absent.gguf", tmp_path)
