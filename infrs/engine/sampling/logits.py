"""Edit a row of scores, float32 [vocab_size], in place before a token is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from infrs.core import SamplingParams, TokenLogprob
from infrs.engine.sampling.filters import largest
from infrs.engine.sampling.sampler import NumericalError

Row = npt.NDArray[np.float32]

# Upper bounds of eight scores for each byte of a mask. A table and a minimum take a third of the time of unpacking.
_BOUNDS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little"), np.inf, -np.inf
).astype(np.float32)


def changes(params: SamplingParams) -> bool:
    """Return whether `penalize` changes a row."""
    return bool(
        params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty or params.logit_bias
    )


def penalize(row: Row, params: SamplingParams, prompt_ids: Iterable[int], counts: Mapping[int, int]) -> None:
    """Apply bias and penalties, as SamplingParams defines them. `counts`: occurrences of each token in the answer."""
    if params.repetition_penalty != 1:
        seen = np.fromiter({*prompt_ids, *counts}, dtype=np.intp)
        scores = row[seen]
        penalty = np.float32(params.repetition_penalty)
        row[seen] = np.where(scores > 0, scores / penalty, scores * penalty)
    if counts and (params.presence_penalty or params.frequency_penalty):
        ids = np.fromiter(counts, dtype=np.intp)
        times = np.fromiter(counts.values(), dtype=np.float32)
        row[ids] -= np.float32(params.presence_penalty) + np.float32(params.frequency_penalty) * times
    for token_id, bias in params.logit_bias:
        row[token_id] += np.float32(bias)


def forbid(row: Row, token_ids: Iterable[int]) -> None:
    """Set the scores of tokens to minus infinity."""
    row[list(token_ids)] = -np.inf


def allow_only(row: Row, allowed: bytes) -> None:
    """Rule out all tokens without a set bit, lowest bit first; ids beyond the mask are ruled out too."""
    bounds = _BOUNDS.take(np.frombuffer(allowed, dtype=np.uint8), axis=0).ravel()[: len(row)]
    within = row[: len(bounds)]
    np.minimum(within, bounds, out=within)  # NaN stays NaN, and is detected later
    row[len(bounds) :] = -np.inf


def log_normalizer(row: Row) -> float:
    """Return log(sum(exp(row))), computed in float64."""
    top = row.max()
    return float(top) + float(np.log(np.exp(row - top).sum(dtype=np.float64)))


def token_logprob(row: Row, token_id: int, num_top: int) -> TokenLogprob:
    """Return the log-probability of a token in an unedited row, and those of the `num_top` most likely tokens.

    Raises NumericalError if the largest score is not finite.
    """
    if not np.isfinite(row.max()):
        raise NumericalError
    normalizer = log_normalizer(row)
    top = largest(row, num_top) if num_top else ()
    return TokenLogprob(
        token_id, float(row[token_id]) - normalizer, tuple((int(i), float(row[i]) - normalizer) for i in top)
    )
