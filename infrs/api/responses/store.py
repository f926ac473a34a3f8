"""Responses that a client may ask for again or go on from, in memory, within bounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """body: the response object as it was sent. items: JSON array of the whole conversation that it answered.

    own: the items that it added to the conversation, each as JSON, by id.
    """

    body: bytes
    items: bytes
    own: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """What it takes of the store."""
        return len(self.body) + len(self.items) + sum(len(name) + len(item) for name, item in self.own.items())


@dataclass(slots=True)
class _Shelf:
    """One tenant's responses, the least recently used first."""

    responses: OrderedDict[str, StoredResponse] = field(default_factory=OrderedDict)
    owners: dict[str, str] = field(default_factory=dict)  # of an item, by its id: the response that has it
    num_bytes: int = 0


class ResponseStore:
    """Keeps the latest responses. A tenant sees its own only.

    What is beyond the bounds goes: the least recently used of the tenant that takes most, so that one tenant cannot
    push out another that takes less. A response that is kept does not need those before it.
    """

    def __init__(self, max_responses: int, max_bytes: int) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._shelves: dict[str, _Shelf] = {}

    @property
    def keeps_any(self) -> bool:
        """Whether there is room for any response at all."""
        return self._max_responses > 0 and self._max_bytes > 0

    @property
    def num_responses(self) -> int:
        """Responses that are kept."""
        return sum(len(shelf.responses) for shelf in self._shelves.values())

    @property
    def num_bytes(self) -> int:
        """What they take."""
        return sum(shelf.num_bytes for shelf in self._shelves.values())

    def put(self, tenant: str, response_id: str, response: StoredResponse) -> None:
        """Keep a response under an id that is new."""
        shelf = self._shelves.setdefault(tenant, _Shelf())
        shelf.responses[response_id] = response
        shelf.owners |= dict.fromkeys(response.own, response_id)
        shelf.num_bytes += response.num_bytes
        while self.num_bytes > self._max_bytes:
            self._drop_oldest(max(self._shelves, key=lambda name: self._shelves[name].num_bytes))
        while self.num_responses > self._max_responses:
            self._drop_oldest(max(self._shelves, key=lambda name: len(self._shelves[name].responses)))

    def get(self, tenant: str, response_id: str) -> StoredResponse | None:
        """A response of the tenant's, which counts as used by this."""
        shelf = self._shelves.get(tenant)
        if shelf is None or response_id not in shelf.responses:
            return None
        shelf.responses.move_to_end(response_id)
        return shelf.responses[response_id]

    def find_item(self, tenant: str, item_id: str) -> bytes | None:
        """Return an item of the tenant's responses as JSON. Its response counts as used by this."""
        shelf = self._shelves.get(tenant)
        owner = shelf and shelf.owners.get(item_id)
        response = self.get(tenant, owner) if owner else None
        return response.own[item_id] if response else None

    def delete(self, tenant: str, response_id: str) -> bool:
        """Forget a response of the tenant's; whether there was one."""
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
