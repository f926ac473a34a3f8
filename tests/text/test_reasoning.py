"""Reasoning blocks split from answers, whole and in pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infrs.text.answer_reader import AnswerReader
from infrs.text.reasoning import ReasoningSplitter, opens_block, thinks
from infrs.text.tools.events import Arguments, CallStart, Content, Reasoning
from infrs.text.tools.formats import FORMATS

# inside, text, reasoning, content
CASES = [
    (False, "Hi.", "", "Hi."),
    (False, "  Hi. ", "", "  Hi. "),
    (False, "<think>\nHm, 2+2.\n</think>\n\nIt is 4.\n", "Hm, 2+2.", "It is 4.\n"),
    (False, "\n<think>a</think>b", "a", "b"),
    (False, "<think>\n\n</think>\n\nb", "", "b"),
    (False, "a <think>b</think>", "", "a <think>b</think>"),
    (False, "<think>never ends </thin", "never ends </thin", ""),
    (False, "<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
    (False, "<thi", "", "<thi"),
    (False, "<think>a < b\n\n  c </think", "a < b\n\n  c </think", ""),
    (True, "Hm.\n</think>\n\nYes.", "Hm.", "Yes."),
    (True, "\nHm", "Hm", ""),
    (True, "</think>Yes.", "", "Yes."),
    (True, "<think>a</think>b", "<think>a", "b"),
    (False, "", "", ""),
]


def read(splitter: ReasoningSplitter, pieces: list[str]) -> tuple[str, str]:
    events = [*(event for piece in pieces for event in splitter.feed(piece)), *splitter.flush()]
    assert all(event.text for event in events if isinstance(event, Content | Reasoning))
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    return reasoning, "".join(event.text for event in events if isinstance(event, Content))


@pytest.mark.parametrize(("inside", "text", "reasoning", "content"), CASES)
def test_cases(inside: bool, text: str, reasoning: str, content: str) -> None:
    for size in (1, 2, 5, 100):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert read(ReasoningSplitter(inside=inside), pieces) == (reasoning, content)


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["<think>", "</think>", "<thi", "</", "nk>", " ", "\n", "a", "é"]), max_size=12),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    inside=st.booleans(),
)
def test_any_text_in_any_pieces(parts: list[str], cuts: list[int], inside: bool) -> None:
    text = "".join(parts)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(borders)]
    whole = read(ReasoningSplitter(inside=inside), [text])
    assert read(ReasoningSplitter(inside=inside), pieces) == whole
    assert read(ReasoningSplitter(inside=inside), list(text)) == whole
    kept = "".join("".join(whole).split())
    tags = "<think>", "</think>"
    assert kept in {"".join(text.split()), *("".join(text.split()).replace(tag, "", 1) for tag in tags)} or (
        kept == "".join(text.split()).replace(tags[0], "", 1).replace(tags[1], "", 1)
    )


def test_templates_and_prompts() -> None:
    assert thinks("{% if '</think>' in content %}")
    assert not thinks("{{ messages }}")
    assert opens_block("<|im_start|>assistant\n<think>\n")
    assert not opens_block("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_calls_are_looked_for_after_the_reasoning_only() -> None:
    call = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    reader = AnswerReader(ReasoningSplitter(inside=True), FORMATS["hermes"].parser(frozenset({"weather"}), None))
    events = [*reader.feed(f"I may write {call}"), *reader.feed(f"\n</think>\n\n{call}"), *reader.flush()]
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    assert reasoning == f"I may write {call}"
    assert [event for event in events if not isinstance(event, Reasoning)] == [CallStart("weather"), Arguments("{}")]
    assert AnswerReader(None, None).feed("x") == [Content("x")]
    assert AnswerReader(None, None).flush() == []
