"""A loaded chat model: its engine, its tokenizer and what its bundle says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from infrs.bundle.files import BundleFiles
from infrs.bundle.manifest import Manifest
from infrs.core import Limits, SamplingParams
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.engine.service import EngineService
from infrs.text.chat.template import ChatFormat
from infrs.text.reasoning.tags import Tags
from infrs.text.token_bytes import TokenBytes
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.tool_format import ToolFormat


@dataclass(frozen=True)
class LoadedModel:
    """An open bundle of a chat model.

    engine: not started before the model is served. grammars: compiles constraints on answers. tool_format: syntax of
    the model's tool calls. reasoning: the tags of its reasoning blocks; None if it writes none. fingerprint: changes
    with everything that can change an answer: weights, recipe, runtime, default sampling. sampling: defaults of a
    request. files: the files of the bundle, open; None in tests without any. draft: the manifest of the draft model, if
    there is one.
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
    reasoning: Tags | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    files: BundleFiles | None = None
    draft: Manifest | None = None

    @property
    def thinks(self) -> bool:
        """Return whether the model writes reasoning blocks."""
        return self.reasoning is not None

    @property
    def max_model_len(self) -> int:
        """Return the maximum number of tokens of a prompt and its answer together."""
        return self.engine.snapshot().max_model_len

    @property
    def limits(self) -> Limits:
        """Return the limits that a request must respect."""
        return Limits(self.max_model_len, self.manifest.vocab_size)
