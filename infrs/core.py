"""The values that cross between the server and the engine. No wire format, no numpy, no asyncio."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from infrs.errors import InfrsError


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # an end-of-sequence token, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the end of the context
    CANCELLED = "cancelled"  # the client went away
    ERROR = "error"  # the engine failed; the last Delta carries the error


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose a token. The neutral value of each field switches it off.

    temperature: 0 is greedy (the arg-max, lowest id on a tie). top_k: 0 is off. top_p: 1 is off.
    min_p: 0 is off. seed: the same seed gives the same tokens, alone or in a batch; None draws one.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One ask: a tokenised prompt and what to do with it. Validated before it is made.

    tenant: keys and values of a prompt are reused only for requests of the same tenant.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one sequence, as of the Delta that carries them."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_reused_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """What a sequence gained in one step: whole characters only, stop strings already removed.

    `finish_reason` is set on the last Delta of a sequence and on no other; `error` only beside ERROR.
    """

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    usage: Usage
    finish_reason: FinishReason | None = None
    error: InfrsError | None = None
