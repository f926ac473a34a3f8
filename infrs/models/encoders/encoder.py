"""Run the graph of an encoder: compute the vector of a text from its token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

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


Text_contra = TypeVar("Text_contra", contravariant=True)


class Encoder(Protocol[Text_contra]):
    """Computes the vectors of texts in a form of its own. Called by one thread at a time."""

    threads: int  # compute threads

    def encode(self, text: Text_contra, /) -> Vector:
        """Return the vector of a text, float32 of a fixed length."""


class OnnxGraph:
    """A graph of an encoder, which runs one text at a time.

    Texts of one length could share a run, but not with the same bits: from 8 tokens on, the products of two texts
    together round differently from those of one (all-MiniLM-L6-v2; docs/dead-ends.md). It would be
    up to 1.9 times as fast for texts of 16 tokens and no faster from 64 on. A vector that never changes is worth more.
    """

    def __init__(self, session: Session, output: str, width: int) -> None:
        """`output`: the name of the graph's output, float32 [B, width]."""
        self._session = session
        self.threads = threads_of(session)
        self._output, self._width = output, width

    def run(self, inputs: Mapping[str, Sequence[int]]) -> Vector:
        """Return the output for one text, float32 [width]. inputs: a row of each input, by name.

        Raises EngineError if the graph returns no vector of finite numbers.
        """
        rows = {name: np.asarray(values, dtype=np.int64)[None, :] for name, values in inputs.items()}
        vector: Vector = self._session.run([self._output], rows)[0][0]
        if vector.shape != (self._width,) or not np.isfinite(vector).all():
            raise EngineError("the graph gave no vector of finite numbers; export the model again")
        return vector


class OnnxEncoder(OnnxGraph):
    """The graph of an embedding model."""

    def __init__(self, session: Session, dimensions: int) -> None:
        super().__init__(session, graph.EMBEDDING, dimensions)

    def encode(self, ids: Sequence[int]) -> Vector:
        """Return the vector of a text, float32 [dimensions]. ids: at least one token id. Raises as `run`."""
        return self.run({graph.INPUT_IDS: ids})


def open_encoder(bundle: Path, manifest: EmbeddingManifest, threads: int, kernels: KernelOptions = AUTO) -> OnnxEncoder:
    """Open the graph of an embedding model. threads, kernels: as of `create_session`.

    Raises BundleError if it cannot be opened or run, or does not have the signature of `infrs.bundle.graph_signature`.
    """
    with limit_growth(bytes_to_open(bundle)):
        session = create_session(bundle / manifest.graph_file, threads, kernels=kernels)
    check_signature(session, [graph.INPUT_IDS], graph.EMBEDDING, "an embedding model")
    encoder = OnnxEncoder(session, manifest.dimensions)
    with limit_growth(bytes_to_open(bundle)), reports_failures():
        encoder.encode([0, manifest.vocab_size - 1])
    return encoder


def check_signature(session: Session, inputs: list[str], output: str, kind: str) -> None:
    """Raise BundleError unless a graph has these inputs and this output. kind: of the model, for the error."""
    signature = [[node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs())]
    if signature != [inputs, [output]]:
        raise BundleError(f"the graph's inputs and outputs are not those of {kind}; export the model again")


def shorten(vector: Vector, dimensions: int, *, normalized: bool) -> Vector:
    """Return the first `dimensions` numbers of a vector, scaled to length 1 if the model's vectors are `normalized`."""
    short = vector[:dimensions]
    if not normalized or dimensions >= len(vector):
        return short
    length = np.linalg.norm(short)
    return short if length == 0 else short / length
