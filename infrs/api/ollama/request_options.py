"""The `options` of Ollama's requests (https://docs.ollama.com/modelfile, "Valid parameters and values")."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from infrs.api.common.fields import (
    AnyHint,
    Body,
    Fraction,
    Neutral,
    Penalty,
    Stop,
    Temperature,
    Unsupported,
    hint,
    refuse_part,
)

_RANDOM_SEED = -1
_PENALTIES = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}  # without effect


class Options(Body):
    """How to generate an answer. None is "not given": the model's defaults apply, not Ollama's."""

    num_predict: Annotated[int, Field(ge=-2, lt=1 << 31)] | None = None
    temperature: Temperature | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None
    top_p: Fraction | None = None
    min_p: Fraction | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_last_n: Annotated[int, Field(ge=-1, lt=1 << 31), hint(-1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Stop | None = None
    # Without effect on the text: the place, the memory and the speed of the model are settings of the server.
    num_ctx: AnyHint = None  # no prompt is truncated
    num_keep: AnyHint = None
    num_batch: AnyHint = None
    num_gpu: AnyHint = None
    num_thread: AnyHint = None
    main_gpu: AnyHint = None
    draft_num_predict: AnyHint = None
    low_vram: AnyHint = None
    f16_kv: AnyHint = None
    use_mmap: AnyHint = None
    use_mlock: AnyHint = None
    numa: AnyHint = None
    mirostat_tau: AnyHint = None  # without effect unless `mirostat` is on
    mirostat_eta: AnyHint = None
    mirostat: Unsupported = None
    tfs_z: Annotated[Any, Neutral(1)] = None
    penalize_newline: Annotated[Any, Neutral(True)] = None
    logits_all: Unsupported = None
    vocab_only: Unsupported = None
    embedding_only: Unsupported = None
    rope_frequency_base: Unsupported = None
    rope_frequency_scale: Unsupported = None

    @model_validator(mode="after")
    def _penalties_have_no_window(self) -> Self:
        is_on = self.repeat_penalty not in (None, 1) or self.presence_penalty or self.frequency_penalty
        if is_on and self.repeat_last_n not in (None, -1, 0):
            refuse_part("repeat_last_n", "penalties count all tokens here; send -1, or 0 for no penalties")
        return self

    @property
    def max_tokens(self) -> int | None:
        """Most tokens of the answer; None is the end of the context."""
        return self.num_predict if self.num_predict is not None and self.num_predict > 0 else None

    @property
    def sampling(self) -> dict[str, Any]:
        """The fields of SamplingParams that are given."""
        given = self.given("temperature", "top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty")
        if self.top_k is not None:
            given["top_k"] = max(self.top_k, 0)
        if self.seed not in (None, _RANDOM_SEED):
            given["seed"] = self.seed % (1 << 64)
        if self.repeat_penalty is not None:
            given["repetition_penalty"] = self.repeat_penalty
        return given | _PENALTIES if self.repeat_last_n == 0 else given
