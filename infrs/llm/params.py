"""How to generate an answer, as a value that several calls share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """The parameters of an answer, by their names in vLLM and in infrs's API; docs/api.md describes them.

    None is "not given": the model's default applies. logprobs: number of alternatives shown with each token; 0 shows
    the token alone.
    """

    n: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    ignore_eos: bool | None = None
    logprobs: int | None = None
    guided_json: Mapping[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Sequence[str] | None = None
    guided_grammar: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the parameters that are given, with lists for sequences."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:  # noqa: ANN401  # any value of a parameter
    if isinstance(value, Mapping):
        return dict(value)
    return value if isinstance(value, str) or not isinstance(value, Sequence) else list(value)
