"""Compute the vector of a text from its token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import EmbeddingManifest
from infrs.engine.runners.opening import bytes_to_open, reports_failures
from infrs.engine.runners.session import Session, create_session, threads_of
from infrs.errors import BundleError, EngineError
from infrs.machine.memory import limit_growth
from infrs.native.options import AUTO, KernelOptions

Vector = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Computes vectors. Called by one thread at a time."""

    threads: int  # compute threads

    def encode(self, ids: Sequence[int]) -> Vector:
        """Return the vector of a text, float32 [dimensions]. ids: at least one token id."""


class OnnxEncoder:
    """Runs a bundle's graph, one text per run.

    Texts of one length could share a run, but not with the same bits: from 8 tokens on, the products of two texts
    together round differently from those of one (all-MiniLM-L6-v2; docs/dead-ends.md). It would be
    up to 1.9 times as fast for texts of 16 tokens and no faster from 64 on. A vector that never changes is worth more.
    """

    def __init__(self, session: Session, dimensions: int) -> None:
        self._session = session
        self.threads = threads_of(session)
        self._dimensions = dimensions

    def encode(self, ids: Sequence[int]) -> Vector:
        """See Encoder. Raises EngineError if the graph returns no vector of finite numbers."""
        row = np.asarray(ids, dtype=np.int64)[None, :]
        vector: Vector = self._session.run([graph.EMBEDDING], {graph.INPUT_IDS: row})[0][0]
        if vector.shape != (self._dimensions,) or not np.isfinite(vector).all():
            raise EngineError("the graph gave no vector of finite numbers; export the model again")
        return vector


def open_encoder(bundle: Path, manifest: EmbeddingManifest, threads: int, kernels: KernelOptions = AUTO) -> OnnxEncoder:
    """Open a bundle's graph. threads, kernels: as of `create_session`.

    Raises BundleError if it cannot be opened or run, or does not have the signature of `infrs.bundle.graph_signature`.
    """
    with limit_growth(bytes_to_open(bundle)):
        session = create_session(bundle / manifest.graph_file, threads, kernels=kernels)
    signature = [[node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs())]
    if signature != [[graph.INPUT_IDS], [graph.EMBEDDING]]:
        raise BundleError("the graph's inputs and outputs are not those of an embedding model; export the model again")
    encoder = OnnxEncoder(session, manifest.dimensions)
    with limit_growth(bytes_to_open(bundle)), reports_failures():
        encoder.encode([0, manifest.vocab_size - 1])
    return encoder


def shorten(vector: Vector, dimensions: int, *, normalized: bool) -> Vector:
    """Return the first `dimensions` numbers of a vector, scaled to length 1 if the model's vectors are `normalized`."""
    short = vector[:dimensions]
    if not normalized or dimensions >= len(vector):
        return short
    length = np.linalg.norm(short)
    return short if length == 0 else short / length
