"""Responses that a client may fetch or continue later, in memory, within bounds."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_MAX_LOCAL = 4  # responses of a connection that are not stored
StoredItem = tuple[str, bytes]  # id and JSON


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response with its conversation.

    body: the response object as sent. items: the whole conversation before the response. output: the items of the
    response. own: the items that the request and its response added to the conversation, each as JSON, by id.
    """

    body: bytes
    items: tuple[StoredItem, ...] = ()
    output: tuple[StoredItem, ...] = ()
    own: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Size in the store, in bytes, as if no other response shared its items."""
        parts = (*self.items, *self.output, *self.own.items())
        return len(self.body) + sum(len(name) + len(item) for name, item in parts)


@dataclass(slots=True)
class _Shelf:
    """One tenant's responses, the least recently used first."""

    responses: OrderedDict[str, StoredResponse] = field(default_factory=OrderedDict)
    owners: dict[str, str] = field(default_factory=dict)  # id of an item -> id of the response that has it
    num_bytes: int = 0


class ResponseStore:
    """Stores the latest responses. A tenant sees only its own.

    Beyond the bounds, the store drops the least recently used response of the tenant with the most, so that no tenant
    displaces another that takes less. A stored response does not need those before it. Thread-safe: the thread that
    formats a response stores it.
    """

    def __init__(self, max_responses: int, max_bytes: int) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._shelves: dict[str, _Shelf] = {}
        self._lock = threading.RLock()

    @property
    def keeps_any(self) -> bool:
        """Whether the bounds allow any response."""
        return self._max_responses > 0 and self._max_bytes > 0

    @property
    def num_responses(self) -> int:
        """Number of stored responses."""
        with self._lock:
            return sum(len(shelf.responses) for shelf in self._shelves.values())

    @property
    def num_bytes(self) -> int:
        """Size of all stored responses, in bytes."""
        with self._lock:
            return sum(shelf.num_bytes for shelf in self._shelves.values())

    def put(self, tenant: str, response_id: str, response: StoredResponse) -> None:
        """Store a response under a new id."""
        with self._lock:
            shelf = self._shelves.setdefault(tenant, _Shelf())
            shelf.responses[response_id] = response
            shelf.owners |= dict.fromkeys(response.own, response_id)
            shelf.num_bytes += response.num_bytes
            while self.num_bytes > self._max_bytes:
                self._drop_oldest(max(self._shelves, key=lambda name: self._shelves[name].num_bytes))
            while self.num_responses > self._max_responses:
                self._drop_oldest(max(self._shelves, key=lambda name: len(self._shelves[name].responses)))

    def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        """Return a response of the tenant, and mark it as used; None if there is none."""
        with self._lock:
            shelf = self._shelves.get(tenant)
            if shelf is None or response_id not in shelf.responses:
                return None
            shelf.responses.move_to_end(response_id)
            return shelf.responses[response_id]

    def find_item(self, tenant: str, item_id: str) -> bytes | None:
        """Return an item of the tenant's responses as JSON, and mark its response as used."""
        with self._lock:
            shelf = self._shelves.get(tenant)
            owner = shelf and shelf.owners.get(item_id)
            response = self.get(tenant, owner) if owner else None
            return response.own[item_id] if response else None

    def delete(self, tenant: str, response_id: str) -> bool:
        """Delete a response of the tenant. Return whether there was one."""
        with self._lock:
            if self.get(tenant, response_id) is None:
                return False
            self._drop(tenant, response_id)
            return True

    def _drop_oldest(self, tenant: str) -> None:
        self._drop(tenant, next(iter(self._shelves[tenant].responses)))

    def _drop(self, tenant: str, response_id: str) -> None:
        shelf = self._shelves[tenant]
        dropped = shelf.responses.pop(response_id)
        shelf.num_bytes -= dropped.num_bytes
        for item_id in dropped.own:
            if shelf.owners.get(item_id) == response_id:
                del shelf.owners[item_id]
        if not shelf.responses:
            del self._shelves[tenant]


class ConnectionResponses:
    """The latest responses of one connection that are not stored: only its own requests can continue them.

    They count to the bounds of the store, under ids that no client knows.
    """

    def __init__(self, store: ResponseStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self._prefix = secrets.token_hex(16)
        self._ids: deque[str] = deque()

    def get(self, response_id: str) -> StoredResponse | None:
        """Return a response of the connection; None if there is none."""
        return self._store.get(self._tenant, self._key(response_id))

    def put(self, response_id: str, response: StoredResponse) -> None:
        """Keep a response, in the place of the oldest."""
        self._store.put(self._tenant, self._key(response_id), replace(response, own={}))
        self._ids.append(response_id)
        if len(self._ids) > _MAX_LOCAL:
            self.drop(self._ids[0])

    def drop(self, response_id: str) -> None:
        """Forget a response, if it is here."""
        if response_id in self._ids:
            self._ids.remove(response_id)
            self._store.delete(self._tenant, self._key(response_id))

    def close(self) -> None:
        """Forget all."""
        for response_id in [*self._ids]:
            self.drop(response_id)

    def _key(self, response_id: str) -> str:
        return f"{self._prefix}/{response_id}"
