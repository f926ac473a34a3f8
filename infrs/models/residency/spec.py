"""What a registry knows of a model before it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from infrs.bundle.manifest import AnyManifest
from infrs.config.settings import EngineSettings
from infrs.models.encoders.classifier import ClassifierModel
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.models.served import ServedModel
from infrs.text.chat.template import ChatFormat

AnyModel = LoadedModel | EmbeddingModel | ClassifierModel
OpenModel = Callable[[EngineSettings], AnyModel]


@dataclass(frozen=True, slots=True)
class Found:
    """A model as it is on disk now.

    num_bytes: the memory that it takes at most once it is loaded, with its keys and values. version: differs if the
    files do. manifest: of its bundle; None if that is not known before it is loaded. read_format: reads the chat format
    of a chat model; it raises BundleError.
    """

    open_model: OpenModel
    num_bytes: int = 0
    version: object = None
    manifest: AnyManifest | None = None
    read_format: Callable[[], ChatFormat] | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that a registry can load, unload and load again.

    find: finds the model on disk, in a thread, before each load. found: what it returned last. kind: of
    model, None if that is not known before it is loaded. at_start: it is loaded at the start of a server.
    keep_alive: seconds after the last request until it is unloaded; negative for never. is_pinned: it is unloaded
    by command only.
    """

    model_id: str
    find: Callable[[], Found]
    found: Found | None = None
    settings: EngineSettings = field(default_factory=EngineSettings)
    aliases: frozenset[str] = frozenset()
    kind: type[ServedModel] | None = None
    at_start: bool = True
    keep_alive: float = -1.0
    is_pinned: bool = False
