"""One answer in the making: what its earlier tokens do to the next, and what it tells of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import synthetic

from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.sampling.logits import Row
from infrs.engine.sequence import Sequence
from infrs.engine.speculation import Draft, PromptLookup, Text
from infrs.errors import EngineError

NONE: frozenset[int] = frozenset()


class Late(synthetic.Letters):
    """Tells a token's text with the next one, and the last one's at the end."""

    held = ""

    def feed(self, token_id: int) -> str:
        told, self.held = self.held, super().feed(token_id)
        return told

    def flush(self) -> str:
        told, self.held = self.held, ""
        return told


def begun(decoder: synthetic.Letters | None = None, prompt: tuple[int, ...] = (9,), **fields: Any) -> Sequence:
    fields = {"max_tokens": 10, "sampling": SamplingParams(temperature=0), "ignore_eos": True} | fields
    return Sequence(Request("a", prompt, **fields), decoder or synthetic.Letters())


def scores(of: dict[int, float]) -> Row:
    row = np.full(10, -9, np.float32)
    row[list(of)] = list(of.values())
    return row


def told(sequence: Sequence, token_ids: list[int]) -> list[Delta]:
    """What is told of tokens that are drawn one after the other."""
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
        ({"presence_penalty": 1.0}, (1,), [1, 2, 1, 1]),  # here it does not
        ({"logit_bias": ((2, 1.0),)}, (9,), [2, 2, 2, 2]),
    ],
    ids=str,
)
def test_penalties_look_at_the_answer_so_far(
    sampling: dict[str, Any], prompt: tuple[int, ...], expected: list[int]
) -> None:
    sequence = begun(prompt=prompt, sampling=SamplingParams(temperature=0, **sampling))
    for _ in expected:
        row = scores({1: 2.5, 2: 2})
        sequence.append(sequence.sample(row, NONE, best=1), NONE, 100)
    assert sequence.tokens.output_ids == expected


def test_what_is_held_back_comes_at_the_end() -> None:
    *_, last = told(begun(Late(), max_tokens=3), [1, 2, 3])
    assert (last.text, last.finish_reason) == (synthetic.letters([2, 3]), FinishReason.LENGTH)


def test_behind_a_stop_string_nothing_comes() -> None:
    *_, last = told(begun(Late(), stop=(synthetic.letters([1]),)), [1, 2])
    assert (last.text, last.finish_reason, last.stop_string) == ("", FinishReason.STOP, synthetic.letters([1]))


def test_a_stop_string_that_only_the_end_completes() -> None:
    deltas = told(begun(Late(), stop=(synthetic.letters([2, 3]),), max_tokens=3), [1, 2, 3])
    assert "".join(delta.text for delta in deltas) == synthetic.letters([1])
    assert deltas[-1].finish_reason is FinishReason.STOP


def test_an_answer_that_failed_tells_no_more() -> None:
    sequence = begun(Late())
    told(sequence, [1, 2])
    assert sequence.finish(FinishReason.ERROR, error=EngineError("lost")).text == ""


@pytest.mark.parametrize("num_logprobs", [0, 2])
def test_alternatives_are_as_many_as_were_asked_for(num_logprobs: int) -> None:
    [delta] = told(begun(num_logprobs=num_logprobs), [1])
    [entry] = delta.logprobs
    assert len(entry.top) == num_logprobs


def test_scores_of_tokens_whose_text_is_not_shown() -> None:
    """They are told where the length ends the answer, as in half a character; not of what ends it itself."""

    class Silent(synthetic.Letters):
        def feed(self, token_id: int) -> str:
            return ""

    [last] = told(begun(Silent(), max_tokens=2, num_logprobs=0), [1, 2])
    assert len(last.logprobs) == 2
    deltas = told(begun(num_logprobs=0, stop_token_ids=frozenset({3})), [1, 3])
    assert [len(delta.logprobs) for delta in deltas] == [1, 0]


def test_no_scores_are_told_that_nobody_asked_for() -> None:
    assert [delta.logprobs for delta in told(begun(), [1, 2])] == [(), ()]


@pytest.mark.parametrize(("max_tokens", "capacity", "room"), [(50, 9, 4), (6, 90, 3), (3, 90, 0), (50, 5, 0)])
def test_a_draft_fits_into_the_answer_and_the_row(
    monkeypatch: pytest.MonkeyPatch, max_tokens: int, capacity: int, room: int
) -> None:
    """It is one shorter than either: the run samples one more token than the draft has."""

    def propose(self: PromptLookup, text: Text, limit: int) -> Draft:
        return Draft(tuple(text[-1:]) * limit)

    monkeypatch.setattr(PromptLookup, "propose", propose)
    sequence = begun(prompt=(7, 8, 9), max_tokens=max_tokens)
    told(sequence, [1, 2])
    sequence.tokens.num_computed = 4
    draft = sequence.draft(capacity)
    assert (() if draft is None else draft.tokens) == (2,) * room
