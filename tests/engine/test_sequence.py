"""A sequence: how its tokens change the next one, and the text and scores that it returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import synthetic

from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.sampling.logits import Row
from infrs.engine.sequence import Sequence
from infrs.engine.speculation.drafter import Draft, Text
from infrs.engine.speculation.lookup import PromptLookup
from infrs.errors import EngineError

NONE: frozenset[int] = frozenset()


class Late(synthetic.Letters):
    """Return the text of a token with the next one, and the text of the last one at the end."""

    buffered = ""

    def feed(self, token_id: int) -> str:
        text, self.buffered = self.buffered, super().feed(token_id)
        return text

    def flush(self) -> str:
        text, self.buffered = self.buffered, ""
        return text


def begun(decoder: synthetic.Letters | None = None, prompt: tuple[int, ...] = (9,), **fields: Any) -> Sequence:
    fields = {"max_tokens": 10, "sampling": SamplingParams(temperature=0), "ignore_eos": True} | fields
    return Sequence(Request("a", prompt, **fields), decoder or synthetic.Letters())


def scores(of: dict[int, float]) -> Row:
    row = np.full(10, -9, np.float32)
    row[list(of)] = list(of.values())
    return row


def deltas_of(sequence: Sequence, token_ids: list[int]) -> list[Delta]:
    """Return the deltas of tokens that are sampled one after the other."""
    deltas = []
    for token_id in token_ids:
        sequence.sample(scores({token_id: 1}), NONE)
        deltas.append(sequence.append(token_id, NONE, 100))
    return [delta for delta in deltas if delta is not None]


@pytest.mark.parametrize(
    ("sampling", "prompt", "expected"),
    [
        ({}, (9,), [1, 1, 1, 1]),
        ({"presence_penalty": 1.0}, (9,), [1, 2, 1, 1]),  # 2.5 and 2, then 1.5 and 2, then 1.5 and 1
        ({"frequency_penalty": 1.0}, (9,), [1, 2, 1, 2]),
        ({"repetition_penalty": 2.0}, (9,), [1, 2, 1, 1]),
        ({"repetition_penalty": 2.0}, (1,), [2, 1, 1, 1]),  # the prompt counts too
        ({"presence_penalty": 1.0}, (1,), [1, 2, 1, 1]),  # the prompt does not count
        ({"logit_bias": ((2, 1.0),)}, (9,), [2, 2, 2, 2]),
    ],
    ids=str,
)
def test_penalties_count_the_tokens_of_the_answer(
    sampling: dict[str, Any], prompt: tuple[int, ...], expected: list[int]
) -> None:
    sequence = begun(prompt=prompt, sampling=SamplingParams(temperature=0, **sampling))
    for _ in expected:
        row = scores({1: 2.5, 2: 2})
        sequence.append(sequence.sample(row, NONE, best=1), NONE, 100)
    assert sequence.tokens.output_ids == expected


def test_buffered_text_is_returned_at_the_end() -> None:
    *_, last = deltas_of(begun(Late(), max_tokens=3), [1, 2, 3])
    assert (last.text, last.finish_reason) == (synthetic.letters([2, 3]), FinishReason.LENGTH)


def test_no_text_follows_a_stop_string() -> None:
    *_, last = deltas_of(begun(Late(), stop=(synthetic.letters([1]),)), [1, 2])
    assert (last.text, last.finish_reason, last.stop_string) == ("", FinishReason.STOP, synthetic.letters([1]))


def test_a_stop_string_completed_by_buffered_text_ends_the_answer() -> None:
    deltas = deltas_of(begun(Late(), stop=(synthetic.letters([2, 3]),), max_tokens=3), [1, 2, 3])
    assert "".join(delta.text for delta in deltas) == synthetic.letters([1])
    assert deltas[-1].finish_reason is FinishReason.STOP


def test_a_failed_answer_returns_no_buffered_text() -> None:
    sequence = begun(Late())
    deltas_of(sequence, [1, 2])
    assert sequence.finish(FinishReason.ERROR, error=EngineError("lost")).text == ""


@pytest.mark.parametrize("num_logprobs", [0, 2])
def test_the_number_of_alternatives_is_num_logprobs(num_logprobs: int) -> None:
    [delta] = deltas_of(begun(num_logprobs=num_logprobs), [1])
    [entry] = delta.logprobs
    assert len(entry.top) == num_logprobs


def test_tokens_without_text_have_logprobs_unless_they_end_the_answer() -> None:
    """A token may be part of a character. A token that ends the answer has no logprobs."""

    class Silent(synthetic.Letters):
        def feed(self, token_id: int) -> str:
            return ""

    [last] = deltas_of(begun(Silent(), max_tokens=2, num_logprobs=0), [1, 2])
    assert len(last.logprobs) == 2
    deltas = deltas_of(begun(num_logprobs=0, stop_token_ids=frozenset({3})), [1, 3])
    assert [len(delta.logprobs) for delta in deltas] == [1, 0]


def test_no_logprobs_are_returned_unless_requested() -> None:
    assert [delta.logprobs for delta in deltas_of(begun(), [1, 2])] == [(), ()]


@pytest.mark.parametrize(("max_tokens", "capacity", "room"), [(50, 9, 4), (6, 90, 3), (3, 90, 0), (50, 5, 0)])
def test_a_draft_fits_into_the_answer_and_the_row(
    monkeypatch: pytest.MonkeyPatch, max_tokens: int, capacity: int, room: int
) -> None:
    """A draft is one token shorter than either, because the run samples one more token than the draft has."""

    def propose(self: PromptLookup, text: Text, limit: int) -> Draft:
        return Draft(tuple(text[-1:]) * limit)

    monkeypatch.setattr(PromptLookup, "propose", propose)
    sequence = begun(prompt=(7, 8, 9), max_tokens=max_tokens)
    deltas_of(sequence, [1, 2])
    sequence.tokens.num_computed = 4
    draft = sequence.draft(capacity)
    assert (() if draft is None else draft.tokens) == (2,) * room


def test_a_stop_token_after_an_incomplete_character_has_no_logprob() -> None:
    sequence = begun(Late(), stop_token_ids=frozenset({2}), num_logprobs=0)
    entries = [entry.token_id for delta in deltas_of(sequence, [1, 2]) for entry in delta.logprobs]
    assert entries == [1]
