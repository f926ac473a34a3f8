"""The entries of a registry: find a model by its id or alias, and refuse a request that names none of its kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from infrs.errors import ConfigError, ModelNotFoundError, RequestError
from infrs.models.encoders.served import ServedClassifier, ServedEmbeddingModel
from infrs.models.residency.decide import ModelState
from infrs.models.residency.model_entry import RegistryEntry
from infrs.models.residency.spec import ModelSpec
from infrs.models.served import ServedChatModel, ServedModel

Kind = TypeVar("Kind", bound=ServedModel)


class Catalogue:
    """Entries by id and alias. entries: by id, in the order of their addition."""

    def __init__(self) -> None:
        self.entries: dict[str, RegistryEntry] = {}
        self._aliases: dict[str, str] = {}  # id by alias

    def add(self, spec: ModelSpec) -> RegistryEntry:
        """Enter a model; one that failed to load is replaced. Raises ConfigError if a name is in use."""
        entry = RegistryEntry(spec)
        previous = self.entries.get(spec.model_id)
        if previous is not None and previous.state is ModelState.FAILED:
            self.forget(previous)
        taken = sorted({spec.model_id, *spec.aliases} & (self.entries.keys() | self._aliases.keys()))
        if taken:
            raise ConfigError(f"{taken[0]} already names a model; remove that one first, or use another name")
        self.entries[spec.model_id] = entry
        self._aliases.update(dict.fromkeys(spec.aliases, spec.model_id))
        return entry

    def forget(self, entry: RegistryEntry) -> None:
        """Remove an entry and its aliases."""
        del self.entries[entry.model_id]
        for alias in entry.spec.aliases:
            del self._aliases[alias]

    def clear(self) -> None:
        """Remove all entries."""
        self.entries.clear()
        self._aliases.clear()

    @property
    def listed(self) -> list[RegistryEntry]:
        """Return all entries, chat models first."""
        return sorted(self.entries.values(), key=lambda entry: not entry.may_be(ServedChatModel))

    def find(self, name: str) -> RegistryEntry | None:
        """Return the entry of an id or alias, None if there is none."""
        return self.entries.get(self._aliases.get(name, name))

    def entry(self, name: str) -> RegistryEntry:
        """Return the entry of an id or alias. Raises ModelNotFoundError."""
        entry = self.find(name)
        if entry is None:
            raise not_served(name, _ids(self.listed))
        return entry

    def chat_entry(self, name: str | None) -> RegistryEntry:
        """Return the entry of a chat model; None stands for the only one.

        Raises ModelNotFoundError, RequestError for a model of another kind and for a name that is missing.
        """
        entry = None if name is None else self.find(name)
        if entry is not None and entry.may_be(ServedChatModel):
            return entry
        ours = self.require_chat()
        if entry is not None:
            raise self._wrong_kind(str(name), entry.kind, ServedChatModel)
        if name is not None:
            raise not_served(name, _ids(ours))
        if len(ours) > 1:
            raise RequestError(f"model: this server has several chat models; name one of {_ids(ours)}", param="model")
        return ours[0]

    def encoder_entry(self, kind: type[ServedModel], name: str) -> RegistryEntry:
        """Return the entry of an encoder. Raises ModelNotFoundError, RequestError for a model of another kind."""
        entry = self.find(name)
        if entry is None:
            noun = kind.noun.partition(" ")[2]
            raise not_served(name, _ids(self.of_kind(kind)) or f"no {noun}: name one in `models`")
        if not entry.may_be(kind):
            raise self._wrong_kind(name, entry.kind, kind)
        return entry

    def checked(self, kind: type[Kind], served: ServedModel) -> Kind:
        """Return a model if it is of a kind, which may not be known before it is loaded. Raises RequestError."""
        if not isinstance(served, kind):
            raise self._wrong_kind(served.model_id, type(served), kind)
        return served

    def of_kind(self, kind: type[ServedModel]) -> list[RegistryEntry]:
        """Return the entries of a kind, loaded or not."""
        return [entry for entry in self.entries.values() if entry.kind is kind]

    def ready(self, kind: type[Kind]) -> list[Kind]:
        """Return the models of a kind that are ready."""
        ready = (entry.served for entry in self.entries.values() if entry.state is ModelState.READY)
        return [served for served in ready if isinstance(served, kind)]

    @property
    def models(self) -> list[ServedModel]:
        """Return the models that are ready, chat models first."""
        return [*self.ready(ServedChatModel), *self.ready(ServedEmbeddingModel), *self.ready(ServedClassifier)]

    def require_chat(self) -> list[RegistryEntry]:
        """Return the entries of chat models. Raises RequestError if there is none."""
        entries = self.of_kind(ServedChatModel)
        if not entries:
            others = [f"{entry.model_id} for {entry.kind.routes}" for entry in self.listed if entry.kind is not None]
            raise _unsupported(f"this server has no chat model; it serves {', '.join(others)}")
        return entries

    def _wrong_kind(self, name: str, kind: type[ServedModel] | None, wanted: type[ServedModel]) -> RequestError:
        described = "a model of another kind" if kind is None else f"{kind.noun}, which {kind.routes} takes"
        ours = _ids(self.of_kind(wanted)) or "name one in `models`"
        return _unsupported(f"{name} is {described}; this request needs {wanted.noun}: {ours}")


def not_served(name: str, ours: str) -> ModelNotFoundError:
    """Return the error of a request for a model that is none of `ours`."""
    return ModelNotFoundError(f"{name[:100]!a} is not served here; this server serves {ours}", param="model")


def _unsupported(message: str) -> RequestError:
    return RequestError(message, param="model", code="model_not_supported")


def _ids(entries: Iterable[RegistryEntry]) -> str:
    return ", ".join(entry.model_id for entry in entries)
