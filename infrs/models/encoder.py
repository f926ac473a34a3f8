"""From the token ids of one text to its vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import EmbeddingManifest
from infrs.engine.runners.session import Session, create_session, threads_of
from infrs.errors import BundleError, EngineError
from infrs.native.options import AUTO, KernelOptions

Vector = npt.NDArray[np.float32]


class Encoder(Protocol):
    """What makes vectors. Called by one thread at a time."""

    threads: int  # that compute

    def encode(self, ids: Sequence[int]) -> Vector:
        """The vector of a text, float32 [dimensions], of at least one token id."""


class OnnxEncoder:
    """Runs a bundle's graph, one text a run.

    Texts of one length could share a run, but not to the bit: from 8 tokens on the products of two texts side by side
    round differently from those of one (all-MiniLM-L6-v2; docs/dead-ends.md). It would be
    up to 1.9 times as fast for texts of 16 tokens and no faster from 64 on; that a text always has the same vector is
    worth more.
    """

    def __init__(self, session: Session, dimensions: int) -> None:
        self._session = session
        self.threads = threads_of(session)
        self._dimensions = dimensions

    def encode(self, ids: Sequence[int]) -> Vector:
        """See Encoder. Raises EngineError if the graph gives what is no vector."""
        row = np.asarray(ids, dtype=np.int64)[None, :]
        vector: Vector = self._session.run([graph.EMBEDDING], {graph.INPUT_IDS: row})[0][0]
        if vector.shape != (self._dimensions,) or not np.isfinite(vector).all():
            raise EngineError("the graph gave no vector of finite numbers; export the model again")
        return vector


def open_encoder(bundle: Path, manifest: EmbeddingManifest, threads: int, kernels: KernelOptions = AUTO) -> OnnxEncoder:
    """Open a bundle's graph. threads, kernels: as of `create_session`.

    Raises BundleError if it cannot be opened or has another border than `infrs.bundle.graph_signature` says.
    """
    session = create_session(bundle / manifest.graph_file, threads, kernels=kernels)
    border = [[node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs())]
    if border != [[graph.INPUT_IDS], [graph.EMBEDDING]]:
        raise BundleError("the graph's inputs and outputs are not those of an embedding model; export the model again")
    return OnnxEncoder(session, manifest.dimensions)


def shorten(vector: Vector, dimensions: int, *, normalized: bool) -> Vector:
    """The first `dimensions` numbers of a vector, of length 1 again if the model's vectors are `normalized`."""
    short = vector[:dimensions]
    if not normalized or dimensions >= len(vector):
        return short
    length = np.linalg.norm(short)
    return short if length == 0 else short / length
