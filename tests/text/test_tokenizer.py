"""The tokenizer of a bundle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from text_tokenizers import KINDS, SPECIAL
from tokenizers import Tokenizer as Backend

from infrs.errors import BundleError
from infrs.text.panics import raises_panics
from infrs.text.tokenizer import Tokenizer


def test_special_adds_what_the_model_expects() -> None:
    tokenizer = Tokenizer(KINDS["sentencepiece"]())
    bare = tokenizer.encode("hello", special=False)
    assert tokenizer.encode("hello", special=True) == [1, *bare]
    assert tokenizer.decode([1, *bare]) == "hello"
    assert tokenizer.decode([1, *bare], skip_special=False) == "<s> hello"


def test_facts(demo_text: Path) -> None:
    tokenizer = Tokenizer.load(demo_text)
    assert tokenizer.vocab_size == 49152
    assert tokenizer.special_ids == frozenset(range(17))
    assert tokenizer.token(2) == "<|im_end|>"
    assert tokenizer.token(49152) is None
    assert tokenizer.decode([49152, 28120]) == "hello"
    assert tokenizer.is_byte_level
    assert tokenizer.joins_bytes
    fused = Tokenizer(KINDS["byte-level-fused"]())
    assert (fused.is_byte_level, fused.joins_bytes) == (True, False)
    assert not Tokenizer(KINDS["sentencepiece"]()).is_byte_level
    assert not Tokenizer(KINDS["undecoded"]()).is_byte_level


def test_a_saved_truncation_or_padding_is_not_obeyed() -> None:
    backend = Backend.from_str(KINDS["byte-level"]())
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    tokenizer = Tokenizer(backend.to_str())
    text = "hello world, hello user " + SPECIAL[3]
    assert tokenizer.decode(tokenizer.encode(text, special=False), skip_special=False) == text
    assert tokenizer.decode(tokenizer.encode(tokenizer.quote(text), special=False), skip_special=False) == text


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"model": 1}'])
def test_what_cannot_be_read_is_a_bundle_error(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.load(tmp_path)


def test_a_panic_in_the_library_is_an_ordinary_error() -> None:
    """What is no `Exception` would pass by whatever guards a request, and end the engine's thread."""

    def panic() -> None:
        raise type("PanicException", (BaseException,), {})("index out of bounds")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="index out of bounds"):
        raises_panics(panic)()
    with pytest.raises(KeyboardInterrupt):
        raises_panics(interrupt)()


def test_serving_text_needs_no_training_libraries() -> None:
    code = (
        "import sys, infrs.text.tokenizer, infrs.text.chat_template, infrs.text.detokenizer, infrs.text.stop\n"
        "print(sorted({'torch', 'transformers', 'optimum', 'onnxruntime', 'gguf', 'requests'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
