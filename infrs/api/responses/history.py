"""The stored items that a request to `/v1/responses` reads and adds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from infrs.api.responses.items import Item, ItemReference, parse_items
from infrs.api.responses.request import ResponsesRequest
from infrs.api.responses.store import ConnectionResponses, ResponseStore, StoredItem, StoredResponse
from infrs.errors import RequestError, UnsupportedParameterError

Put = Callable[[str, StoredResponse], None]


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A request, and where to find the stored items that it refers to. Its text work needs no store.

    previous: the response that the request continues. referenced: the items that it names by reference, as JSON by id.
    max_bytes: of all items that references add. put: stores the response under its id; None if it is not to be kept.
    is_stored: whether clients can use the id later, on any connection.
    """

    body: ResponsesRequest
    previous: StoredResponse | None
    referenced: Mapping[str, bytes]
    max_bytes: int
    put: Put | None
    is_stored: bool

    @property
    def model(self) -> str:
        """The id of the model that the request names."""
        return self.body.model

    @property
    def num_earlier_bytes(self) -> int:
        """Size of the conversation that the request continues, in bytes."""
        return 0 if self.previous is None else self.previous.num_bytes

    def read(self) -> History:
        """Parse the stored items. It can take long. Raises RequestError for a reference to an unknown item."""
        pairs = () if self.previous is None else (*self.previous.items, *self.previous.output)
        present = {name for name, _ in pairs}
        earlier = [item for _, text in pairs for item in parse_items([orjson.loads(text)])]
        return History(self, pairs, earlier, resolve(self.body.input, present, self.referenced.get, self.max_bytes))


@dataclass(frozen=True, slots=True)
class History:
    """The items of a conversation.

    pairs, earlier: those up to `previous_response_id`, as stored and parsed. given: the input, its references resolved.
    """

    asked: StoredConversation
    pairs: tuple[StoredItem, ...]
    earlier: list[Item]
    given: list[Item]

    def keeper(self, response_id: str) -> Callable[[Mapping[str, Any]], None] | None:
        """Return a function that stores the finished response, or None if it is not to be kept."""
        if (put := self.asked.put) is None:
            return None
        stored = [None if isinstance(item, ItemReference) else _stored(item.stored()) for item in self.given]
        items = (*self.pairs, *filter(None, stored))
        new = [
            item
            for item, sent in zip(stored, self.asked.body.input, strict=True)
            if item and not isinstance(sent, ItemReference)
        ]

        def keep(ended: Mapping[str, Any]) -> None:
            output = tuple(map(_stored, ended["output"]))
            put(response_id, StoredResponse(orjson.dumps(ended), items, output, dict((*new, *output))))

        return keep


def _stored(item: Mapping[str, Any]) -> StoredItem:
    return item["id"], orjson.dumps(item)


def open_conversation(
    body: ResponsesRequest,
    store: ResponseStore,
    tenant: str,
    max_bytes: int,
    local: ConnectionResponses | None = None,
) -> StoredConversation:
    """Return a request with the stored items that it refers to.

    Call it on the thread that owns the store. max_bytes: of all items that references add. local: of the request's
    connection; it keeps what the store does not. Raises RequestError for an unknown response, and
    UnsupportedParameterError for `store: true` if the server stores nothing.
    """
    previous = _previous(store, tenant, body.previous_response_id, local)
    names = [item.id for item in body.input if isinstance(item, ItemReference)]
    found = {name: store.find_item(tenant, name) for name in names}
    if body.store and not store.keeps_any:
        raise UnsupportedParameterError(
            "store: this server keeps no responses; send false, and the whole conversation each time", param="store"
        )

    keeps = body.store is not False and store.keeps_any
    put: Put | None = partial(store.put, tenant) if keeps else None
    if not keeps and local is not None:
        put = local.put
    referenced = {name: item for name, item in found.items() if item is not None}
    return StoredConversation(body, previous, referenced, max_bytes, put, keeps)


def _previous(
    store: ResponseStore, tenant: str, response_id: str | None, local: ConnectionResponses | None
) -> StoredResponse | None:
    """Return the response that a request continues. Raises RequestError."""
    if response_id is None:
        return None
    previous = (local and local.get(response_id)) or store.get(tenant, response_id)
    if previous is None:
        raise RequestError(
            "previous_response_id: no stored response has this id; it may have made room for others. "
            "Send the whole conversation as input",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return previous


def resolve(
    items: Sequence[Item],
    earlier: Collection[str],
    find: Callable[[str], bytes | None],
    max_bytes: int,
) -> list[Item]:
    """Return the items, with stored items in the place of the references to them.

    A reference to an item that the conversation already has stays: it adds nothing.
    earlier: ids of the items before `items`. find: returns an item as JSON. max_bytes: of all items that references
    add. Raises RequestError for an unknown id, and for more bytes.
    """
    present: set[str | None] = {*earlier}
    resolved: list[Item] = []
    for index, item in enumerate(items):
        taken = item
        if isinstance(item, ItemReference) and item.id not in present:
            found = find(item.id)
            if found is None:
                raise RequestError(
                    f"input[{index}].id: no stored item has this id; it may have made room for others. "
                    "Send the item itself",
                    param=f"input[{index}].id",
                    code="item_not_found",
                )
            max_bytes -= len(found)
            if max_bytes < 0:
                raise RequestError(
                    "input: the items that are named by reference are longer than server.max_body_bytes; "
                    "send fewer of them",
                    param="input",
                    code="array_above_max_length",
                )
            [taken] = parse_items([orjson.loads(found)])
        present.add(item.id)
        resolved.append(taken)
    return resolved
