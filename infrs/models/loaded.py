"""The models of a server: each with its engine, its tokenizer and what its bundle says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infrs.bundle.manifest import Manifest
from infrs.core import Limits, SamplingParams
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.engine.service import EngineService
from infrs.models.embedding_model import EmbeddingModel
from infrs.text.chat.template import ChatFormat
from infrs.text.token_bytes import TokenBytes
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.tool_format import ToolFormat


@dataclass(frozen=True)
class LoadedModel:
    """A bundle that is loaded and answers.

    grammars: what compiles constraints on answers. tool_format: how it writes tool calls. thinks: whether it writes
    reasoning blocks. fingerprint: changes whenever the same request may be answered otherwise: weights, recipe or
    runtime. sampling: of a request that does not say. beside: ids of the embedding models of the same server.
    """

    model_id: str
    manifest: Manifest
    bundle: Path
    engine: EngineService
    tokenizer: Tokenizer
    chat_format: ChatFormat
    token_bytes: TokenBytes
    fingerprint: str
    created: int  # Unix time, seconds
    grammars: GrammarCompiler
    tool_format: ToolFormat
    thinks: bool
    sampling: SamplingParams = field(default_factory=SamplingParams)
    beside: frozenset[str] = frozenset()

    @property
    def max_model_len(self) -> int:
        """Most tokens of a prompt and its answer together."""
        return self.engine.snapshot().max_model_len

    @property
    def limits(self) -> Limits:
        """What a request may ask of it."""
        return Limits(self.max_model_len, self.manifest.vocab_size)


@dataclass(frozen=True)
class Served:
    """All that a server serves: at most one chat model, beside any number of embedding models by their ids."""

    chat: LoadedModel | None
    embedding: Mapping[str, EmbeddingModel] = field(default_factory=dict)

    @property
    def models(self) -> list[LoadedModel | EmbeddingModel]:
        """The chat model first."""
        return [*filter(None, [self.chat]), *self.embedding.values()]
