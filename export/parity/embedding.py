"""The parity check of embedding models: the bundle must give the same vectors as the source model.

`record` runs the source model (eager PyTorch, float32; weights rounded to the same 16 bits) on texts from one word to
the longest that it accepts. `check` runs the bundle in the session that serves it. Vectors are scaled so that the
source's have length 1:

- float32, float16, bfloat16: no number of a vector differs by more than `MAX_DIFFERENCE`.
- int8: the least cosine of a text's two vectors is at least `MIN_COSINE`. NaN or infinity anywhere fails.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from infrs.bundle.graph_signature import EMBEDDING, INPUT_IDS
from infrs.bundle.manifest import Dtype
from infrs.engine.runners.session import create_session, kernels_of
from infrs.errors import ParityError, SourceError

from ..graph.sentence_encoder import SentenceEncoder
from .kernels import kernels_name
from .text import PROMPTS, TEXT

MAX_DIFFERENCE = 1e-4  # all-MiniLM-L6-v2 in float32: 2e-7
MIN_COSINE = 0.98  # all-MiniLM-L6-v2 in int8: 0.9991; in 4 bits it would be 0.947
MAX_TOKENS = 512

Vector = NDArray[np.float32]


def record(
    encoder: SentenceEncoder, encode: Callable[[str], list[int]], max_tokens: int
) -> list[tuple[list[int], Vector]]:
    """Return the ids of texts, at most `max_tokens` each, and the source's vectors of them, float32 [dimensions].

    Raises SourceError if the tokenizer `encode` does not belong to the model.
    """
    texts = [*PROMPTS, *filter(str.strip, TEXT.splitlines()), TEXT]
    recorded = []
    for text in texts:
        ids = encode(text)[: min(max_tokens, MAX_TOKENS)]
        vocab_size = int(encoder.transformer.config.vocab_size)
        if not ids or max(ids) >= vocab_size:
            raise SourceError(
                f"the tokenizer gives token {max(ids, default=None)}, the model has {vocab_size}: "
                "they do not belong together"
            )
        row = torch.tensor([ids])
        with torch.inference_mode():
            recorded.append((ids, encoder(row, torch.ones_like(row))[0].numpy()))
    return recorded


def check(dtype: Dtype, graph: Path, recorded: list[tuple[list[int], Vector]]) -> dict[str, float | int | str]:
    """Return the figures for the manifest. Raises ParityError, which names the difference."""
    session = create_session(graph, threads=0, spin=False)
    cosines, differences = [], []
    for ids, source in recorded:
        got = session.run([EMBEDDING], {INPUT_IDS: np.array([ids], np.int64)})[0][0]
        if not (np.isfinite(got).all() and np.isfinite(source).all()):
            raise ParityError(f"the {dtype} graph or its source answers NaN or infinity; nothing was published")
        length = float(np.linalg.norm(source)) or 1.0
        cosines.append(float(got @ source) / (length * (float(np.linalg.norm(got)) or 1.0)))
        differences.append(float(np.abs(got - source).max()) / length)
    worst, least = max(differences), min(cosines)
    if dtype == "int8" and least < MIN_COSINE:
        raise ParityError(
            f"int8 loses too much on this model: a text's vector has the cosine {least:.4f} with its source's "
            f"(at least {MIN_COSINE}); nothing was published, choose a finer --dtype"
        )
    if dtype != "int8" and worst > MAX_DIFFERENCE:
        raise ParityError(
            f"the {dtype} graph differs from its source: a number of a vector by {worst:.3g}, {MAX_DIFFERENCE:g} is "
            "allowed; nothing was published, please report this model"
        )
    num_tokens = sum(len(ids) for ids, _ in recorded)
    return {
        "num_texts": len(recorded),
        "num_tokens": num_tokens,
        "max_difference": worst,
        "min_cosine": min(least, 1.0),
        "kernels": kernels_name(kernels_of(session)),
    }
