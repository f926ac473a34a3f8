"""Regular expressions that can take exponential time are refused; those of real tokenizers are not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

import pytest
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

from infrs.text import tokenizer as ours
from infrs.text.bounds.backtracking import check_pattern

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENDS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASES = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
_CASE_ENDS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_NO_HAN = r"&&[^\p{Han}]]"
REAL = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_ENDS}",
    "Qwen 2": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_ENDS}",
    "Qwen 3.5": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}{_ENDS}",
    "o200k": _CASES.replace("%s", _CONTRACTIONS + "?") + r"|\p{N}{1,3}" + _CASE_ENDS,
    "Tekken": _CASES.replace("%s", "") + r"|\p{N}" + _CASE_ENDS,
    "Kimi": r"[\p{Han}]+|" + _CASES.replace("%s", _CONTRACTIONS + "?").replace(r"\p{M}]", r"\p{M}" + _NO_HAN) + _ENDS,
    "DeepSeek 3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "DeepSeek, East Asian": "[一-龥\u3040-ゟ゠-ヿ]+",
    "DeepSeek LLM, letters": r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-Ρ]+",
    "DeepSeek LLM, marks": r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
    "DeepSeek LLM, end": r"\s+$",
    "EXAONE 4": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "Falcon": "[0-9][0-9][0-9]",
    "Cohere": r"\d{1,3}(?=(?:\d{3})*\b)",
    "SuperBPE": r"(?=(\d{3})+(?!\d))",
    "digits from the right": r"(?:(?<=\A)|(?<=[^0-9]))[0-9]{1,3}(?=(?:[0-9]{3})*(?:[^0-9]|$))",
    "Chameleon": "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    "Ling": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "Jais 2": rf"{_CONTRACTIONS}|\p{{L}}+|\s{{512}}(?!\S)|\s{{64}}(?!\S)|\s{{1,2}}(?!\S)|\s{{1}}",
    "CLIP": rf"{_CONTRACTIONS}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
    "XLM-R": " {2,}",
    "ChatGLM": r"(?:\r?\n)+",
    "end of word": "</w>$",
}
EXPONENTIAL = (
    r"(a+)+$",
    r"(a*)*b",
    r"(a|aa)+$",
    r"(?:a|a)*$",
    r"([a-z]+)*\d",
    r"(?i:(?:[^\s]+)+)z",
    r"(\s*\w+)*!",
    r"(x+x+)+y",
    r"(?:(?:a+)+b)+",
    r"(?:(a+)+|b)c",
    r"^(a?){30}a{30}",
    r"(a+){10}b",
    r"a**b",
    r"a{1,9}+b",
    r"((a|a){2}){4}{4}b",
    r"(a|a){5}b",
    r"(?=(a+)+$)a",
    r"(?>(a+)+b)",
    r"(?<n>[]a]+)+[(]",
    r"(?#(?:)(a+)+b",
    r"(?:\x{61}+)+b",
    r"(?:a+?)+?b",
)
UNKNOWN = (r"(?x)( a + ) + $", r"(?mx-i:( a + ) + )$", r"(a+)\1b", r"(?<n>a\g<n>?)b", r"(?~a)b", "(" * 60 + ")" * 60)
HARMLESS = (
    r"(?:foo)*bar",
    r"(?>a+)+b",
    r"(?:a++)+b",
    r"(?:a+b?)+",
    r"(?:ab|cd)?e",
    r"(?<!\\)[(]a+[)]",
    r"[a+*(]+b",
    r"\(a+\)+",
    r"(a+){1}b",
)


@pytest.mark.parametrize("name", REAL)
def test_pattern_of_a_real_tokenizer_is_accepted(name: str) -> None:
    check_pattern(REAL[name])


@pytest.mark.parametrize("pattern", EXPONENTIAL)
def test_exponential_pattern_is_refused_before_it_runs(pattern: str) -> None:
    Regex(pattern)  # valid
    began = time.thread_time()
    with pytest.raises(ValueError, match="in several ways, so a short text could stop the server"):
        check_pattern(pattern)
    assert time.thread_time() - began < 0.05


@pytest.mark.parametrize("pattern", UNKNOWN)
def test_form_that_the_check_does_not_follow_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"the form|groups in one another"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"a*a*a*b", r"\s*\s*\s*\s*=", r"(?:a*a*a*a*|x)c"])
def test_pattern_with_a_high_power_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"takes more than .* ms for"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", HARMLESS)
def test_harmless_repetition_is_accepted(pattern: str) -> None:
    check_pattern(pattern)


def random_pattern(draw: random.Random, depth: int = 3) -> str:
    """A pattern of a few letters, in which repetitions and choices are often in one another."""

    def part() -> str:
        inner = draw.choice(["a", "b", "[ab]", "."])
        if depth and draw.random() < 0.5:
            inner = f"({draw.choice(['', '?:', '?:', '?>', '?=', '?!'])}{random_pattern(draw, depth - 1)})"
        return inner + draw.choice(["", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "++", "+?"])

    choices = ["".join(part() for _ in range(draw.randint(1, 3))) for _ in range(draw.choice([1, 1, 2]))]
    return "|".join(choices)


def valid_patterns(draw: random.Random) -> Iterator[str]:
    while True:
        pattern = random_pattern(draw)
        with suppress(Exception):  # the repetition of a position is an error of the library
            Regex(pattern)
            yield pattern


@pytest.mark.nightly("regular expressions of tokenizers")
def test_an_accepted_pattern_is_fast_on_any_text(full: bool, figure: Callable[[str], None]) -> None:
    """At most the square of the text, here 1,000 letters, and never so many steps that the library gives up."""
    num_patterns = 10_000 if full else 60
    draw, num_refused, slowest = random.Random(5), 0, 0.0
    for pattern in islice(valid_patterns(draw), num_patterns):
        try:
            check_pattern(pattern)
        except ValueError:
            num_refused += 1
            continue
        step = normalizers.Replace(Regex(pattern), "")
        for pump in ("a", "b", "ab", "aab", "abb"):
            for end in ("", "c", "ac", "bc"):
                began = time.thread_time()
                step.normalize_str((pump * 1000)[:1000] + end)
                slowest = max(slowest, time.thread_time() - began)
                assert slowest < 0.5, pattern
    assert num_refused < num_patterns / 2
    figure(
        f"{num_patterns:,} patterns, {num_refused:,} refused; the others take {slowest:.2f} s for 1,000 letters at most"
    )


PARTS = {
    "normalizer": normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex("(a+)+$"), "")]),
    "pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("(a+)+$"), "isolated")]),
    "decoder": decoders.Replace(Regex("(a+)+$"), ""),
}


@pytest.mark.parametrize("name", PARTS)
def test_tokenizer_with_an_exponential_pattern_is_refused(name: str) -> None:
    """Without the check a text of 23 letters, many times in a row, takes 70 ms each."""
    tokenizer = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    setattr(tokenizer, name, PARTS[name])
    with pytest.raises(ValueError, match=r"'\(a\+\)\+\$'"):
        ours.Tokenizer(tokenizer.to_str())
