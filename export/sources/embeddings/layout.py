"""The layout of an embedding model: the steps from its token vectors to the vector of a text, and its prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from infrs.bundle.manifest import Pooling


@dataclass(frozen=True)
class Dense:
    """A product and an activation. weights: its safetensors file. activation: the name of a class of torch.nn."""

    weights: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class Normalize:
    """A scaling of the vector to length 1."""


Step = Dense | Normalize


@dataclass(frozen=True)
class Prompts:
    """The texts that the model expects before each text. default: without a choice. by_name: those to choose from."""

    default: str = ""
    by_name: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lengths:
    """The lengths of vectors. default: None for the model's own. allowed: None for any up to the model's own."""

    default: int | None = None
    allowed: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Layout:
    """The steps from a text's token vectors to its vector: the pooling, then `steps`.

    max_tokens: most tokens of a text, with special tokens; None: the transformer's maximum.
    lowercase: whether texts are lower-cased first.
    """

    pooling: Pooling
    steps: tuple[Step, ...] = ()
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: Prompts = Prompts()
    lengths: Lengths = Lengths()

    @property
    def dense(self) -> list[Dense]:
        """The products, in order."""
        return [step for step in self.steps if isinstance(step, Dense)]

    @property
    def normalized(self) -> bool:
        """Whether vectors have length 1."""
        return bool(self.steps) and isinstance(self.steps[-1], Normalize)
