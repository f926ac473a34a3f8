"""The parity check of classifiers: the bundle must give the same logits as the source model.

`record` runs the source model (eager PyTorch, float32; weights rounded to the same 16 bits) on pairs of a question and
a passage, up to the longest that it accepts. `check` runs the bundle in the session that serves it.

- float32, float16, bfloat16: no logit differs by more than `MAX_DIFFERENCE` of the largest, which counts as 1 at least.
- int8: no probability differs by more than `MAX_PROBABILITY`, by the sigmoid for one label and the softmax for several.

NaN or infinity anywhere fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from infrs.bundle.graph_signature import INPUT_IDS, LOGITS, TOKEN_TYPE_IDS
from infrs.bundle.manifest import Dtype
from infrs.engine.runners.session import create_session, kernels_of
from infrs.errors import ParityError, SourceError

from .kernels import kernels_name
from .text import PROMPTS, TEXT

MAX_DIFFERENCE = 1e-4
MAX_PROBABILITY = 0.05
MAX_TOKENS = 512

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Recorded:
    """A pair of texts as inputs of the graph, by name, and the source's logits of it, float32 [labels]."""

    inputs: dict[str, list[int]]
    logits: Logits


def record(
    model: PreTrainedModel,
    encode: Callable[[str, str], tuple[list[int], list[int]]],
    max_tokens: int,
    *,
    token_types: bool,
) -> list[Recorded]:
    """Return pairs, at most `max_tokens` each, with the source's logits.

    encode: returns the token ids and the token types of a pair. token_types: whether the model gets the types.
    Raises SourceError if the tokenizer does not belong to the model.
    """
    vocab_size = int(model.config.vocab_size)
    recorded = []
    for question, passage in zip(cycle(PROMPTS), [*filter(str.strip, TEXT.splitlines()), TEXT], strict=False):
        ids, types = (values[: min(max_tokens, MAX_TOKENS)] for values in encode(question, passage))
        if not ids or max(ids) >= vocab_size:
            raise SourceError(
                f"the tokenizer gives token {max(ids, default=None)}, the model has {vocab_size}: "
                "they do not belong together"
            )
        inputs = {INPUT_IDS: ids, **({TOKEN_TYPE_IDS: types} if token_types else {})}
        rows = {name: torch.tensor([values]) for name, values in inputs.items()}
        with torch.inference_mode():
            logits = model(**rows, attention_mask=torch.ones_like(rows[INPUT_IDS])).logits[0]
        recorded.append(Recorded(inputs, logits.numpy()))
    return recorded


def check(dtype: Dtype, graph: Path, recorded: list[Recorded]) -> dict[str, float | int | str]:
    """Return the figures for the manifest. Raises ParityError, which names the difference."""
    session = create_session(graph, threads=0, spin=False)
    differences, changes, largest = [], [], 1.0
    for pair in recorded:
        rows = {name: np.array([values], np.int64) for name, values in pair.inputs.items()}
        got: Logits = session.run([LOGITS], rows)[0][0]
        if not (np.isfinite(got).all() and np.isfinite(pair.logits).all()):
            raise ParityError(f"the {dtype} graph or its source answers NaN or infinity; nothing was published")
        largest = max(largest, float(np.abs(pair.logits).max()))
        differences.append(float(np.abs(got - pair.logits).max()))
        changes.append(float(np.abs(_probabilities(got) - _probabilities(pair.logits)).max()))
    worst, change = max(differences) / largest, max(changes)
    if dtype == "int8" and change > MAX_PROBABILITY:
        raise ParityError(
            f"int8 loses too much on this model: a probability differs by {change:.3f} from its source's (at most "
            f"{MAX_PROBABILITY}); nothing was published, choose a finer --dtype"
        )
    if dtype != "int8" and worst > MAX_DIFFERENCE:
        raise ParityError(
            f"the {dtype} graph differs from its source: a logit by {worst:.3g} of the largest, {MAX_DIFFERENCE:g} is "
            "allowed; nothing was published, please report this model"
        )
    return {
        "num_pairs": len(recorded),
        "num_tokens": sum(len(pair.inputs[INPUT_IDS]) for pair in recorded),
        "max_difference": worst,
        "max_probability_difference": change,
        "kernels": kernels_name(kernels_of(session)),
    }


def _probabilities(logits: Logits) -> NDArray[np.float64]:
    """Return the probabilities of the labels: by the sigmoid for one, by the softmax for several."""
    wide = logits.astype(np.float64)
    wide = np.append(wide, 0.0) if len(wide) == 1 else wide  # the sigmoid is the softmax of a logit and 0
    exponentials: NDArray[np.float64] = np.exp(wide - wide.max())
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum()
    return probabilities
