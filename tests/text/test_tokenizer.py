"""The tokenizer of a bundle."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_shortest import TEXTS
from text_tokenizers import KINDS, SPECIAL
from tokenizers import AddedToken, normalizers
from tokenizers import Tokenizer as Backend

from infrs.errors import BundleError, ContextLengthError
from infrs.text.bounds.shortest import Shortest
from infrs.text.rust import raises_panics
from infrs.text.tokenizer import Tokenizer


@cache
def of_definition(definition: str) -> tuple[Tokenizer, Backend]:
    return Tokenizer(definition), Backend.from_str(definition)


@cache
def known(kind: str) -> tuple[Tokenizer, Backend]:
    return of_definition(KINDS[kind]())


def test_special_adds_what_the_model_expects() -> None:
    tokenizer = Tokenizer(KINDS["sentencepiece"]())
    bare = tokenizer.encode("hello", special=False)
    assert tokenizer.encode("hello", special=True) == [1, *bare]
    assert tokenizer.decode([1, *bare]) == "hello"
    assert tokenizer.decode([1, *bare], skip_special=False) == "<s> hello"


@given(text=TEXTS, special=st.booleans())
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_encode(kind: str, text: str, special: bool) -> None:
    tokenizer, backend = known(kind)
    ids = tokenizer.encode(text, special=special)
    assert ids == backend.encode(text, add_special_tokens=special).ids
    for skip in (False, True):
        assert tokenizer.decode(ids, skip_special=skip) == backend.decode(ids, skip_special_tokens=skip)


@given(text=TEXTS, special=st.booleans())
def test_ids_of_the_demo_are_those_of_encode(demo_text: Path, text: str, special: bool) -> None:
    definition = (demo_text / "tokenizer.json").read_text()
    tokenizer, backend = of_definition(definition)
    assert tokenizer.encode(text, special=special) == backend.encode(text, add_special_tokens=special).ids


def test_other_threads_run_while_a_text_is_long() -> None:
    """Each call takes over 0.1 s here, in which a thread that held the GIL would let no other run."""
    tokenizer, _ = known("byte-level")
    text = "0123456789" * 30_000
    ids = tokenizer.encode(text, special=False)
    quoted = tokenizer.quote(SPECIAL[3]) + text
    backend = Backend.from_str(tokenizer.backend.to_str())
    backend.normalizer = normalizers.NFKC()
    backend.add_special_tokens([AddedToken("<stop>", special=True, normalized=True)])
    normalising = Tokenizer(backend.to_str())
    calls: list[Callable[[], object]] = [
        lambda: tokenizer.encode(text, special=False),
        lambda: tokenizer.encode(quoted, special=False),
        lambda: tokenizer.decode(ids * 8),
        lambda: tokenizer.check_length("\xe9" * 4_000_000, 7_999_999, "prompt"),
        lambda: normalising.quote("\uff21\xe9 " * 200_000),
    ]
    for call in calls:
        call()  # what is made once is made now
        worker = threading.Thread(target=call)
        began, longest, last = time.monotonic(), 0.0, time.monotonic()
        worker.start()
        while worker.is_alive():
            time.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert longest < (last - began) / 2


def test_a_long_text_makes_nothing_that_loading_could_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lower bound of token counts takes 0.1 s for a large vocabulary, in which no other thread runs."""
    tokenizer = Tokenizer(KINDS["byte-level"]())
    tokenizer.prepare()
    monkeypatch.setattr(Shortest, "__init__", lambda *_: pytest.fail("made for a text"))
    with pytest.raises(ContextLengthError):
        tokenizer.check_length("7" * 100_000, 10, "prompt")


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


def test_saved_truncation_and_padding_are_ignored() -> None:
    backend = Backend.from_str(KINDS["byte-level"]())
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    tokenizer = Tokenizer(backend.to_str())
    text = "hello world, hello user " + SPECIAL[3]
    assert tokenizer.decode(tokenizer.encode(text, special=False), skip_special=False) == text
    assert tokenizer.decode(tokenizer.encode(tokenizer.quote(text), special=False), skip_special=False) == text


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"model": 1}'])
def test_unreadable_file_raises_bundle_error(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"):
        Tokenizer.load(tmp_path)


def test_library_panic_raises_value_error() -> None:
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
        "import sys, infrs.text.tokenizer, infrs.text.chat.template, infrs.text.detokenizer, infrs.text.stop\n"
        "print(sorted({'torch', 'transformers', 'optimum', 'onnxruntime', 'gguf', 'requests'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
