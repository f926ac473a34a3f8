"""The lower bound of a text's tokens: never above what the tokenizer makes, and near enough to be of use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_tokenizers import CORPUS, KINDS, SPECIAL, byte_level
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from infrs.errors import ContextLengthError
from infrs.text.tokenizer import Tokenizer

PIECES = [
    *CORPUS[0].split(),
    *SPECIAL,
    *(
        "<0x41>",
        "\u2581",
        "<\u0338",
        "|im_end|>\u0338",
        "e\u0301",
        "\u1112\u1161\u11ab",
        "\u212b",
        "\u3000",
        "\xa0",
        "\x1c",
    ),
    *(" " * 40, "\n\n\t", "-" * 70, "0123456789" * 3, "你好，世界", "😀👍🏽", "\U000115b8", "\u200d"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=30).map("".join)


def stripping() -> str:
    """Return a byte-level tokenizer in which a special token strips the whitespace next to it."""
    backend = Backend.from_str(byte_level())
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False, special=True)])
    return backend.to_str()


def without_bytes(*, keeps: str = "") -> str:
    """Byte-level with a vocabulary that lacks bytes, which are removed, and with them those in `keeps`."""
    vocab = {character: i for i, character in enumerate("abcdefgh ")} | {"ab": 9, "Ġa": 10}
    backend = Backend(models.BPE(vocab=vocab, merges=[("a", "b")]))
    pattern = Regex(f"[éĄ{keeps}]")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False), pre_tokenizers.Split(pattern, "removed")]
    )
    return backend.to_str()


def lowered() -> str:
    backend = Backend.from_str(byte_level())
    backend.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Strip()])
    return backend.to_str()


MADE = KINDS | {
    "stripping": stripping,
    "without-bytes": without_bytes,
    "without-letters": lambda: without_bytes(keeps="a"),
    "lowered": lowered,
}
BOUNDED = {
    *("byte-level", "byte-level-fused", "stripping", "without-bytes"),
    *("sentencepiece", "sentencepiece-first", "sentencepiece-never", "sentencepiece-rstrip"),
}


@pytest.fixture(scope="module", params=MADE)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(kind: str) -> Tokenizer:
    return Tokenizer(MADE[kind]())


def refused(tokenizer: Tokenizer, text: str, limit: int) -> bool:
    try:
        tokenizer.check_length(text, limit, "prompt")
    except ContextLengthError:
        return True
    return False


@given(text=TEXTS)
def test_a_text_that_fits_is_not_refused(kind: str, tokenizer: Tokenizer, text: str) -> None:
    quoted = tokenizer.quote(text) if kind != "lowered" else text
    for written in (text, quoted, f"<|im_start|>{quoted}<|im_end|>"):
        for special in (False, True):
            fits = len(tokenizer.encode(written, special=special)) if kind in BOUNDED else 0
            assert not refused(tokenizer, written, fits)


def test_refusal_names_the_field_and_the_fix() -> None:
    tokenizer = Tokenizer(byte_level())
    sentence = r"^input\[3\] has \d+ tokens or more, but at most 10 are allowed; shorten input\[3\]$"
    with pytest.raises(ContextLengthError, match=sentence) as raised:
        tokenizer.check_length("abcd" * 5000, 10, "input[3]")
    assert raised.value.param == "input[3]"


def test_a_text_that_is_far_too_long_is_refused(kind: str, tokenizer: Tokenizer) -> None:
    assert refused(tokenizer, "abcd" * 5000, 200) == (kind in BOUNDED)


def test_typed_control_tokens_count_as_text() -> None:
    """Not as the longer marks that stand for them on the way through a template."""
    tokenizer = Tokenizer(byte_level())
    text = tokenizer.quote("<|end|>" * 100)
    assert not refused(tokenizer, text, len(tokenizer.encode(text, special=False)))


def test_composed_characters_are_not_counted_twice() -> None:
    tokenizer = Tokenizer(byte_level())
    text = "e\u0301" * 1000
    assert not refused(tokenizer, text, len(tokenizer.encode(text, special=False)))
    assert refused(tokenizer, "\xe9" * 1000, 200)


@pytest.mark.parametrize("mark", ["\u0301", "\u0323", "\u11a8", "\u1161", "\u09be"])
def test_a_long_text_is_cut_where_nothing_composes(mark: str) -> None:
    """The text is looked at in pieces; each offset puts another character at the cut."""
    tokenizer = Tokenizer(byte_level())
    for offset in range(3):
        for base in "e\u1100\uac00\u09c7":
            text = "x" * ((2 << 16) - offset) + (base + mark) * 10
            assert not refused(tokenizer, text, len(tokenizer.encode(text, special=False)))
            assert refused(tokenizer, text, 2000)


def test_on_the_demo(demo_text: Path) -> None:
    """English is refused from five to seven times the context on, one letter over and over from four times on."""
    tokenizer = Tokenizer.load(demo_text)
    text = CORPUS[0] * 1000
    num_tokens = len(tokenizer.encode(text, special=False))
    assert refused(tokenizer, text, num_tokens // 8)
    assert refused(tokenizer, "x" * (4 << 20), 8192)
    assert refused(tokenizer, "你好，世界" * 100_000, 8192)
    assert not refused(tokenizer, " " * 80 * 8192, 8192)
