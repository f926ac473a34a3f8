"""Convert a GGUF file's tokenizer and sampling parameters to the files of Hugging Face models.

transformers converts weights from GGUF faithfully, but not tokenizers: it ignores `tokenizer.ggml.pre` (so digits are
not split as the model learnt them), the token types, `add_bos_token` and the end-of-turn token. This follows llama.cpp
(src/llama-vocab.cpp), which tests/export/test_gguf_tokenizer.py runs on the same files as the reference.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import Keys, TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from infrs.errors import SourceError

from .reader import read_gguf
from .vocabulary import checked_vocabulary

_SPACE = "▁"  # U+2581, which SentencePiece writes for a space
_DIGIT = r"\p{N}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _Pre:
    """The rules that split text into words before merging. Each pattern splits the pieces of the previous one."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False  # a word that is in the vocabulary is taken whole
    add_bos: bool = False  # if the file does not specify it
    nfc: bool = False  # the original tokenizer composes characters first; llama.cpp does not


_STARCODER = _Pre((_DIGIT, _GPT2))
_PRE = {
    "default": _Pre((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
    "gpt-2": _Pre((_GPT2,)),
    "phi-2": _Pre((_GPT2,)),
    "olmo": _Pre((_GPT2,)),
    "smollm": _STARCODER,
    "starcoder": _STARCODER,
    "refact": _STARCODER,  # Granite's
    "llama-bpe": _Pre((_LLAMA3,), ignore_merges=True, add_bos=True),
    "glm4": _Pre((_LLAMA3,), ignore_merges=True),
    "chatglm-bpe": _Pre((_LLAMA3,)),  # GLM 4 in older files
    "dbrx": _Pre((_LLAMA3,)),  # OLMo 2's
    "smaug-bpe": _Pre((_LLAMA3,)),  # SmolLM3's
    "qwen2": _Pre((_LLAMA3.replace(r"\p{N}{1,3}", _DIGIT),), nfc=True),
}
# Tokens that end a turn, for files that name only the end of a document (as in llama.cpp).
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|end_of_role|>")

_SAMPLING = {  # the names of transformers
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}


def write_tokenizer(gguf_path: Path, directory: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and, if the file has a template, `chat_template.jinja`.

    Sampling parameters are written to `generation_config.json`. `eos_token` is the token that ends a turn of the chat
    template. Raises SourceError if the file cannot be read, or its kind of tokenizer is not supported.
    """
    meta = checked_vocabulary(read_gguf(gguf_path).metadata)
    tokenizer = _build(meta, gguf_path)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = json.dumps(_config(meta), ensure_ascii=False, indent=2)
    (directory / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")
    if (template := meta.get(Keys.Tokenizer.CHAT_TEMPLATE)) is not None:
        (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    if sampling := {name: _decimal(meta[key]) for key, name in _SAMPLING.items() if key in meta}:
        (directory / "generation_config.json").write_text(json.dumps(sampling, indent=2) + "\n")


def _decimal(value: object) -> object:
    """Return the shortest decimal of a float32: 0.6, not 0.6000000238418579."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _build(meta: dict[str, Any], path: Path) -> Tokenizer:
    kind = meta[Keys.Tokenizer.MODEL]
    vocab = {token: index for index, token in enumerate(meta[Keys.Tokenizer.LIST])}
    if len(vocab) != len(meta[Keys.Tokenizer.LIST]):
        raise SourceError(f"{path} names a token twice; export the Hugging Face model instead")
    if kind == "gpt2":
        tokenizer = _byte_level(meta, vocab, path)
    elif kind == "llama":
        tokenizer = _sentencepiece(meta, vocab)
    else:
        raise SourceError(f"{path} has a tokenizer of kind {kind!r}, not gpt2 or llama; export the Hugging Face model")
    tokenizer.add_tokens(_added_tokens(meta))
    bos = meta.get(Keys.Tokenizer.BOS_ID)
    if _adds_bos(meta) and bos is not None:
        token = meta[Keys.Tokenizer.LIST][bos]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[token, "$A"], pair=[token, "$A", token, "$B"], special_tokens=[(token, bos)]
        )
    return tokenizer


def _byte_level(meta: dict[str, Any], vocab: dict[str, int], path: Path) -> Tokenizer:
    name = meta[Keys.Tokenizer.PRE]
    pre = _PRE.get(name)
    if pre is None:
        known = ", ".join(sorted(_PRE))
        raise SourceError(
            f"{path}: tokenizer.ggml.pre {name!r} is none of {known}; export the Hugging Face model instead"
        )
    pairs = (tuple(merge.split(" ", 1)) for merge in meta[Keys.Tokenizer.MERGES])
    merges = [pair for pair in pairs if len(pair) == 2 and {*pair, "".join(pair)} <= vocab.keys()]  # not pruned ones
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre.ignore_merges))
    if pre.nfc:
        tokenizer.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in pre.patterns]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    if unknown := "".join(sorted(set(pre_tokenizers.ByteLevel.alphabet()) - vocab.keys())):
        # A byte without a token is dropped, and text around it is not merged: SmolLM2 lacks six control characters.
        steps.append(pre_tokenizers.Split(Regex(f"[{re.escape(unknown)}]"), "removed"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(meta: dict[str, Any], vocab: dict[str, int]) -> Tokenizer:
    prefix = meta.get(Keys.Tokenizer.ADD_PREFIX, True)
    unknown = meta[Keys.Tokenizer.LIST][meta.get(Keys.Tokenizer.UNK_ID, 0)]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=_merges(meta, vocab), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefix else spaces
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    return tokenizer


def _merges(meta: dict[str, Any], vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Return all pairs of pieces that form a piece, best score first: SentencePiece stores scores, not merges."""
    normal = (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED)
    ranked = []
    for piece, score, kind in zip(
        meta[Keys.Tokenizer.LIST], meta[Keys.Tokenizer.SCORES], meta[Keys.Tokenizer.TOKEN_TYPE], strict=True
    ):
        if kind in normal:
            halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
            ranked += [
                (-score, vocab[left], vocab[right]) for left, right in halves if left in vocab and right in vocab
            ]
    tokens = meta[Keys.Tokenizer.LIST]
    return [(tokens[left], tokens[right]) for _, left, right in sorted(ranked)]


def _added_tokens(meta: dict[str, Any]) -> list[AddedToken]:
    """Return the tokens that are split off the text before any other step. Control tokens are special."""
    special = {TokenType.CONTROL: True, TokenType.UNKNOWN: True, TokenType.USER_DEFINED: False}
    return [
        AddedToken(token, special=special[kind], normalized=False)
        for token, kind in zip(meta[Keys.Tokenizer.LIST], meta[Keys.Tokenizer.TOKEN_TYPE], strict=True)
        if kind in special
    ]


def _adds_bos(meta: dict[str, Any]) -> bool:
    pre = _PRE.get(meta.get(Keys.Tokenizer.PRE, ""))
    default = pre.add_bos if meta[Keys.Tokenizer.MODEL] == "gpt2" and pre else meta[Keys.Tokenizer.MODEL] == "llama"
    return bool(meta.get(Keys.Tokenizer.ADD_BOS, default))


def _config(meta: dict[str, Any]) -> dict[str, str | bool | int]:
    tokens = meta[Keys.Tokenizer.LIST]
    ids = {
        "bos_token": meta.get(Keys.Tokenizer.BOS_ID),
        "eos_token": _end_of_turn(meta),
        "unk_token": meta.get(Keys.Tokenizer.UNK_ID),
        "pad_token": meta.get(Keys.Tokenizer.PAD_ID),
    }
    config: dict[str, str | bool | int] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config |= {name: tokens[index] for name, index in ids.items() if index is not None}
    config |= {"add_bos_token": _adds_bos(meta), "clean_up_tokenization_spaces": False}
    context = meta.get(f"{meta.get(Keys.General.ARCHITECTURE)}.context_length")
    return config | ({"model_max_length": int(context)} if context is not None else {})


def _end_of_turn(meta: dict[str, Any]) -> int | None:
    """Return the id of the token that ends a turn: the eos, unless the chat template ends turns with another token."""
    tokens = meta[Keys.Tokenizer.LIST]
    eos: int | None = meta.get(Keys.Tokenizer.EOS_ID)
    template = meta.get(Keys.Tokenizer.CHAT_TEMPLATE, "")
    if eos is not None and (tokens[eos] in template or "eos_token" in template):
        return eos
    if (turn := meta.get(Keys.Tokenizer.EOT_ID)) is not None:
        return int(turn)
    return next((tokens.index(token) for token in _END_OF_TURN if token in template and token in tokens), eos)
