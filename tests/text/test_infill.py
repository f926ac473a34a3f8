import json

import pytest
from text_tokenizers import byte_level, sentencepiece
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from infrs.text.infill import infill_marks, infill_prompt
from infrs.text.tokenizer import Tokenizer


def with_marks(definition: str, marks: list[str]) -> Tokenizer:
    backend = Backend.from_str(definition)
    backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return Tokenizer(json.dumps(json.loads(backend.to_str())))


@pytest.mark.parametrize(
    "marks",
    [
        ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
        ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
        ["<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"],
        ["\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"],
    ],
    ids=["qwen", "starcoder", "deepseek", "codellama"],
)
def test_prefix_suffix_middle(marks: list[str]) -> None:
    tokenizer = with_marks(byte_level(), marks)
    found = infill_marks(tokenizer)
    assert found is not None
    assert [tokenizer.token(i) for i in found] == marks
    ids = infill_prompt(tokenizer, found, "What is ", "? It is 4.")
    assert tokenizer.decode(ids, skip_special=False) == f"{marks[0]}What is {marks[1]}? It is 4.{marks[2]}"


def test_a_tokenizer_that_begins_texts_begins_this_one_once() -> None:
    tokenizer = with_marks(sentencepiece(), ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
    found = infill_marks(tokenizer)
    assert found is not None
    ids = list(infill_prompt(tokenizer, found, "a", "b"))
    begin = tokenizer.token_id("<s>")
    assert ids[0] == begin
    assert ids.count(begin) == 1


def test_no_marks() -> None:
    assert infill_marks(with_marks(byte_level(), ["<fim_prefix>", "<fim_suffix>"])) is None
