"""Fill-in-the-middle prompts: what comes before a gap and after it, for models that were trained to fill it."""

from __future__ import annotations

from collections.abc import Sequence

from infrs.text.tokenizer import Tokenizer

# The control tokens before the prefix, before the suffix and before the middle, as families write them.
_MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma, Granite 4
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite Code
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001  # DeepSeek-Coder
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
)


def infill_marks(tokenizer: Tokenizer) -> tuple[int, int, int] | None:
    """Ids of the tokens that begin the prefix, the suffix and the middle; None if the vocabulary has none."""
    for marks in _MARKS:
        before, after, middle = (tokenizer.token_id(mark) for mark in marks)
        if before is not None and after is not None and middle is not None:
            return before, after, middle
    return None


def infill_prompt(tokenizer: Tokenizer, marks: tuple[int, int, int], prefix: str, suffix: str) -> Sequence[int]:
    """Ids of the prompt whose continuation goes between `prefix` and `suffix` (prefix, suffix, middle order)."""
    before, after, middle = marks
    ids = [*tokenizer.encode("", special=True), before, *tokenizer.encode(prefix, special=False)]
    return [*ids, after, *tokenizer.encode(suffix, special=False), middle]
