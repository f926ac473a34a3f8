"""Streamed text is the text of the whole, for every kind of tokenizer and for bytes that make no sense."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infrs.text.detokenizer import Detokenizer
from infrs.text.tokenizer import Tokenizer

TEXTS = ["Hello world, café", "你好，世界 😀👍🏽 é", "  two  spaces\n", "", "ÀÿĀ mojibake <0xE2> ▁ ##"]


def streamed(tokenizer: Tokenizer, ids: list[int], *, skip_special: bool) -> str:
    detokenizer = Detokenizer(tokenizer, skip_special=skip_special)
    return "".join([detokenizer.feed(token_id) for token_id in ids]) + detokenizer.flush()


@pytest.mark.nightly("detokenizer")
def test_streamed_text_equals_decoded_text(tokenizer: Tokenizer, full: bool, figure: Callable[[str], None]) -> None:
    size = tokenizer.vocab_size
    spellings = {token_id: tokenizer.token(token_id) or "" for token_id in range(min(size, 600))}
    lone_bytes = [i for i, token in spellings.items() if len(token) == 1 or token.startswith("<0x")]
    anything = st.one_of(st.integers(0, size + 3), st.sampled_from(lone_bytes), st.integers(0, 9))

    examples = 10_000 if full else 400

    @settings(max_examples=examples)
    @given(st.lists(anything, max_size=25), st.booleans())
    def check(ids: list[int], skip_special: bool) -> None:
        assert streamed(tokenizer, ids, skip_special=skip_special) == tokenizer.decode(ids, skip_special=skip_special)

    check()
    figure(f"{examples:,} sequences of tokens: streamed text equals decoded text")


@pytest.mark.parametrize("text", TEXTS)
def test_texts(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=False)
    assert streamed(tokenizer, ids, skip_special=True) == tokenizer.decode(ids)


@pytest.mark.parametrize("text", TEXTS)
def test_no_half_character(demo_text: Path, text: str) -> None:
    tokenizer = Tokenizer.load(demo_text)
    detokenizer, shown = Detokenizer(tokenizer), ""
    for token_id in tokenizer.encode(text, special=False):
        shown += detokenizer.feed(token_id)
        assert text.startswith(shown)
    assert shown == text  # nothing is held back once a character is whole
    assert detokenizer.flush() == ""


def test_incomplete_character_is_flushed_at_the_end(demo_text: Path) -> None:
    tokenizer = Tokenizer.load(demo_text)
    first, *_ = tokenizer.encode("\U00020bb7", special=False)  # a rare character: several tokens
    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.feed(first) == ""
    assert detokenizer.flush() == "\ufffd"


class CountingTokenizer:
    """Count the decoded ids: a measure of a detokenizer's work that does not depend on the machine's load."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.num_ids = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def spelt_bytes(self, token_id: int) -> bytes:
        self.num_ids += 1
        return self.tokenizer.spelt_bytes(token_id)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        self.num_ids += len(ids)
        return self.tokenizer.decode(ids, skip_special=skip_special)


def test_work_per_token_does_not_grow(tokenizer: Tokenizer) -> None:
    counting = CountingTokenizer(tokenizer)
    detokenizer = Detokenizer(cast(Tokenizer, counting))
    ids = random.Random(0).choices(range(tokenizer.vocab_size), k=5_000)
    totals = []
    for token_id in ids:
        detokenizer.feed(token_id)
        totals.append(counting.num_ids)
    early, late = totals[1_000] - totals[0], totals[-1] - totals[-1_001]
    assert 0 < late < 2 * early
