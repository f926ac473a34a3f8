"""Tokenizers of every kind, small enough to make on the spot."""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|end|>"]
CORPUS = [
    "The quick brown fox jumps over the lazy dog. What is 2+2? It is 4.",
    "Hello world, hello user, hello assistant: im_start im_end system user assistant end s",
    "naïve café déjà vu — Zürich, São Paulo; 你好，世界 こんにちは 😀👍🏽",
] * 4


def _added(*, rstrip: bool = False) -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=False, rstrip=rstrip) for token in SPECIAL]


def _trained(backend: Backend, trainer: trainers.Trainer) -> str:
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens(_added())
    return backend.to_str()


def byte_level(*, fused: bool = False) -> str:
    """GPT-2's kind, with Qwen's NFC; `fused`: decoded by more than one step."""
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    steps = [decoders.ByteLevel(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps) if fused else decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    return _trained(backend, trainer)


def sentencepiece(*, prefix: str = "always", rstrip: bool = False) -> str:
    """Llama 2's kind: `prefix` is where a space is put in front, `rstrip` Phi-3's habit of special tokens."""
    backend = Backend(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    if prefix == "always":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prefix != "never" else []))
    special = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False, limit_alphabet=60)
    tokenizer = Backend.from_str(backend.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(CORPUS, trainer)
    backend.model = tokenizer.model
    backend.add_special_tokens(_added(rstrip=rstrip))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend.to_str()


def word_piece() -> str:
    """BERT's kind: words parted by spaces, pieces inside a word begin with ##."""
    backend = Backend(models.WordPiece(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    return _trained(backend, trainer)


def metaspace() -> str:
    """A decoder that drops the space of the first token only."""
    backend = Backend(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return _trained(backend, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False))


def suffixed() -> str:
    """GPT-1's kind: the last piece of a word ends in </w>."""
    backend = Backend(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False
    )
    return _trained(backend, trainer)


def undecoded() -> str:
    """No decoder: tokens are joined by spaces."""
    backend = Backend(models.WordLevel(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), "removed")
    return _trained(backend, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False))


# A tokenizer.json each.
KINDS: dict[str, Callable[[], str]] = {
    "byte-level": byte_level,
    "byte-level-fused": lambda: byte_level(fused=True),
    "sentencepiece": sentencepiece,
    "sentencepiece-first": lambda: sentencepiece(prefix="first"),
    "sentencepiece-never": lambda: sentencepiece(prefix="never"),
    "sentencepiece-rstrip": lambda: sentencepiece(rstrip=True),
    "word-piece": word_piece,
    "metaspace": metaspace,
    "suffixed": suffixed,
    "undecoded": undecoded,
}
