"""The presenter of completions: chunks, or the whole body."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infrs.api.chat.presenter import failure
from infrs.api.completions.request import CompletionRequest
from infrs.api.output import bodies, sse
from infrs.api.output.continuation import Continuation
from infrs.api.output.logprobs import TextLogprobs, no_text_logprobs
from infrs.api.output.tally import Tally
from infrs.api.output.usage import to_finish_reason, to_usage
from infrs.core import Delta
from infrs.errors import InfrsError
from infrs.models.loaded import LoadedModel
from infrs.text.token_bytes import TokenBytes


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """The token ids of a prompt, and the text that `echo` shows."""

    request_id: str
    ids: Sequence[int]
    text: str


class CompletionPresenter:
    """Presenter of `POST /v1/completions`. Answer i of prompt p is choice p * n + i."""

    content_type = sse.CONTENT_TYPE
    ping = sse.PING

    def __init__(
        self, body: CompletionRequest, model: LoadedModel, answer_id: str, prompts: Sequence[EncodedPrompt]
    ) -> None:
        self._body = body
        self._options = body.options
        self._choices = {
            (prompt.request_id, index): _Choice(body, model.token_bytes, prompt, position)
            for position, (prompt, index) in enumerate(
                (prompt, index) for prompt in prompts for index in range(body.num_choices)
            )
        }
        self._scores: dict[str, Delta] = {}  # by request id: the delta with the log-probabilities of the prompt
        self._held: dict[str, list[Delta]] = {}  # of answers that wait for the scores
        self._tally = Tally()
        self._head = bodies.head(
            "text_completion",
            answer_id=answer_id,
            created=int(time.time()),
            model=model.model_id,
            fingerprint=model.fingerprint,
        )
        self._chunks = sse.TextChunks(self._head, include_usage=self._options.include_usage)

    @property
    def finished(self) -> bool:
        """See Presenter."""
        return all(choice.finish_reason is not None for choice in self._choices.values())

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        """See Presenter."""
        for delta in self._in_order(deltas):
            self._tally.count(delta)
            choice = self._choices[delta.request_id, delta.index]
            text, logprobs = choice.feed(delta, self._scores.get(delta.request_id))
            if text or choice.finish_reason is not None or (logprobs and logprobs["tokens"]):
                usage = to_usage(self._tally.usage) if self._options.usage_in_every_chunk else None
                yield self._chunks.text(
                    choice.position, text, logprobs=logprobs, reason=choice.finish_reason, usage=usage
                )
        if deltas and self.finished:
            if self._options.include_usage:
                yield self._chunks.usage(to_usage(self._tally.usage))
            yield sse.DONE

    def failed(self, error: InfrsError) -> bytes:
        """See Presenter."""
        return failure(error)

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See Presenter."""
        for delta in self._in_order(deltas):
            self._tally.count(delta)
            self._choices[delta.request_id, delta.index].keep(delta, self._scores.get(delta.request_id))
        num_shown = self._body.n or 1
        made, num_made = list(self._choices.values()), self._body.num_choices
        by_prompt = [made[start : start + num_made] for start in range(0, len(made), num_made)]
        best = [choice for answers in by_prompt for choice in _best(answers, num_shown)]
        choices = [choice.shown(index) for index, choice in enumerate(best)]
        return bodies.completion(self._head, choices, to_usage(self._tally.usage))

    def _in_order(self, deltas: Sequence[Delta]) -> Iterator[Delta]:
        """Yield the deltas. Those of a prompt echoed with scores wait until answer 0 brings the scores."""
        for delta in deltas:
            if not self._body.scores_prompt or delta.request_id in self._scores:
                yield delta
            elif delta.index == 0:
                self._scores[delta.request_id] = delta
                yield delta
                yield from self._held.pop(delta.request_id, [])
            else:
                self._held.setdefault(delta.request_id, []).append(delta)


class _Choice:
    """One answer. position: its index in a stream."""

    def __init__(self, body: CompletionRequest, token_bytes: TokenBytes, prompt: EncodedPrompt, position: int) -> None:
        self.position = position
        self.finish_reason: str | None = None
        self._prompt = prompt
        self._to_echo = bool(body.echo)
        self._continuation = Continuation(token_bytes, prompt.ids[-1])
        previous = None if body.echo else prompt.ids[-1]
        self._logprobs = None if body.logprobs is None else TextLogprobs(token_bytes, previous=previous)
        self._texts: list[str] = []
        self._kept: dict[str, list[Any]] | None = None if body.logprobs is None else no_text_logprobs()
        self._scores: list[float] = []

    def feed(self, delta: Delta, scores: Delta | None) -> tuple[str, dict[str, list[Any]] | None]:
        """Return the text and the log-probabilities that a delta adds. scores: the delta with those of the prompt."""
        if delta.finish_reason is not None:
            self.finish_reason = to_finish_reason(delta.finish_reason)
        text, logprobs = self._continuation.feed(delta), None
        if self._to_echo:
            text = self._prompt.text + text
        if self._logprobs is not None:
            logprobs = no_text_logprobs()
            if self._to_echo and scores is not None:
                _extend(logprobs, self._logprobs.prompt(self._prompt.ids, scores.prompt_logprobs, self._prompt.text))
            _extend(logprobs, self._logprobs.answer(delta.logprobs))
        self._to_echo = False
        return text, logprobs

    def keep(self, delta: Delta, scores: Delta | None) -> None:
        """Take a delta, and keep its text and log-probabilities."""
        text, logprobs = self.feed(delta, scores)
        self._texts.append(text)
        self._scores += [entry.logprob for entry in delta.logprobs]
        if self._kept is not None and logprobs is not None:
            _extend(self._kept, logprobs)

    @property
    def mean_logprob(self) -> float:
        """The mean over the tokens of the answer; an answer without tokens sorts last."""
        return sum(self._scores) / len(self._scores) if self._scores else -math.inf

    def shown(self, index: int) -> dict[str, object]:
        """Return the answer as a choice of the body."""
        assert self.finish_reason is not None, "a stream ends with a finish reason or raises"  # noqa: S101
        return {
            "index": index,
            "text": "".join(self._texts),
            "logprobs": self._kept,
            "finish_reason": self.finish_reason,
        }


def _best(answers: Sequence[_Choice], num_shown: int) -> Sequence[_Choice]:
    """Return all answers, or the best of more, by the mean log-probability of their tokens."""
    if len(answers) == num_shown:
        return answers
    return sorted(answers, key=lambda choice: choice.mean_logprob, reverse=True)[:num_shown]


def _extend(lists: dict[str, list[Any]], more: dict[str, list[Any]]) -> None:
    for name, values in more.items():
        lists[name] += values
