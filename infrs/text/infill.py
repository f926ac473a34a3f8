"""Fill-in-the-middle prompts: the text before and after a gap, for models trained to fill it."""

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
    """Return the ids of the tokens before prefix, suffix and middle; None if the vocabulary has none."""
    for marks in _MARKS:
        before, after, middle = (tokenizer.token_id(mark) for mark in marks)
        if before is not None and after is not None and middle is not None:
            return before, after, middle
    return None


def infill_prompt(tokenizer: Tokenizer, marks: tuple[int, int, int], prefix: str, suffix: str) -> Sequence[int]:
    """Return the ids of a prompt for the text between `prefix` and `suffix` (prefix, suffix, middle order)."""
    before, after, middle = marks
    ids = [*tokenizer.encode("", special=True), before, *tokenizer.encode(prefix, special=False)]
    return [*ids, after, *tokenizer.encode(suffix, special=False), middle]
