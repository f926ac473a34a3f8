"""The values that pass between the server and the engine. No wire format, no numpy, no asyncio."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from infrs.errors import InfrsError, RequestTimeoutError


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Identify one client request and limit its duration. Made once per request.

    request_id: names the request in logs. tenant: owner of the request's cached tokens and stored responses, "" on a
    server without API keys. timeout: maximum duration in seconds. deadline: its end, in seconds of `time.monotonic`.
    model_id: the model that answers, None until it is known.
    """

    request_id: str
    tenant: str
    timeout: float
    deadline: float
    model_id: str | None = None

    @classmethod
    def start(cls, request_id: str, tenant: str, timeout: float) -> RequestContext:
        """Return the context of a request that starts now and may take `timeout` seconds."""
        return cls(request_id, tenant, timeout, time.monotonic() + timeout)

    def for_model(self, model_id: str) -> RequestContext:
        """Return this context with the model that answers."""
        return replace(self, model_id=model_id)

    @property
    def remaining(self) -> float:
        """Return the seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def timeout_error(self) -> RequestTimeoutError:
        """Return the error of a request that has reached its deadline."""
        return RequestTimeoutError(f"the answer took longer than the {self.timeout:g} s this server allows it")


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # an end-of-sequence token, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the end of the context
    CANCELLED = "cancelled"  # the client went away
    ERROR = "error"  # the engine failed; the last Delta carries the error


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose a token. The neutral value of each field switches it off.

    temperature: 0 is greedy (the arg-max, lowest id on a tie). top_k: 0 is off. typical_p, top_p: 1 is off.
    min_p: 0 is off. They apply in the order temperature, top_k, typical_p, top_p, min_p.
    presence_penalty, frequency_penalty: subtracted from the scores of tokens that the answer has, once, and once for
    each time (OpenAI's definition). repetition_penalty: divides the positive scores, and multiplies the negative, of
    tokens that the prompt or the answer has (CTRL, arXiv 1909.05858); 1 is off. logit_bias: added to scores, by id.
    seed: the same seed gives the same tokens, alone or in a batch; None draws one.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model can take: tokens of prompt and answer together, ids below vocab_size."""

    max_model_len: int
    vocab_size: int


class GrammarState(Protocol):
    """Where an answer stands in its grammar."""

    def allowed(self) -> bytes:
        """The tokens that may come next: one bit an id, lowest bit first."""

    def accept(self, token_id: int) -> None:
        """Take a token that was allowed."""

    def copy(self) -> GrammarState:
        """A state at the same place that changes independently."""


class Grammar(Protocol):
    """A compiled constraint on an answer's text."""

    def start(self) -> GrammarState:
        """The state before the first token; each answer has its own."""


@dataclass(frozen=True, slots=True)
class Request:
    """A tokenised prompt and its parameters, validated.

    num_choices: number of answers; answer i draws from (seed, i). num_logprobs: None for none, else the number of
    alternatives per token. prompt_logprobs: return them for prompt tokens too.
    min_tokens: number of tokens before an end-of-sequence or stop token may be drawn.
    tenant: cached tokens are reused only between requests of one tenant.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    min_tokens: int = 0
    num_choices: int = 1
    num_logprobs: int | None = None
    prompt_logprobs: bool = False
    grammar: Grammar | None = None
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log-probability of a token under the model's own scores, before temperature, penalties and filters.

    top: the most likely ids at this place and theirs, descending.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one sequence, as of the Delta that carries them."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_reused_tokens: int = 0


@dataclass(slots=True)  # not frozen: that would be three times as slow, at every token
class Delta:
    """New text of one answer of a request: whole characters only, stop strings already removed.

    index: number of the answer within its request. finish_reason: only on the last Delta of an answer. error: only
    with ERROR. logprobs: of the tokens in the text, if requested; they may arrive with a later Delta than their text.
    prompt_logprobs: on the first Delta of answer 0, of every prompt token but the first. stop_string: the string of
    Request.stop that ended the answer, on its last Delta.
    """

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    usage: Usage
    finish_reason: FinishReason | None = None
    error: InfrsError | None = None
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    stop_string: str | None = None
