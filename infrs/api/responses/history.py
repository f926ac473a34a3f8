"""The stored items that a request to `/v1/responses` reads and adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from infrs.api.responses.items import Item, ItemReference, parse_items
from infrs.api.responses.request import ResponsesRequest
from infrs.api.responses.store import ResponseStore, StoredResponse
from infrs.errors import RequestError, UnsupportedParameterError


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A request together with the stored items that it refers to.

    earlier: the items of the conversation up to `previous_response_id`. given: the input, its references resolved.
    put: stores the response under its id; None if the response is not to be stored.
    """

    body: ResponsesRequest
    earlier: list[dict[str, Any]]
    given: list[Item]
    put: Callable[[str, StoredResponse], None] | None

    @property
    def model(self) -> str:
        """The id of the model that the request names."""
        return self.body.model

    def keeper(self, response_id: str) -> Callable[[Mapping[str, Any]], None] | None:
        """Return a function that stores the finished response, or None if it is not to be stored."""
        if (put := self.put) is None:
            return None
        stored = [None if isinstance(item, ItemReference) else item.stored() for item in self.given]
        items = orjson.dumps([*self.earlier, *filter(None, stored)])
        new = [
            item
            for item, sent in zip(stored, self.body.input, strict=True)
            if item and not isinstance(sent, ItemReference)
        ]

        def keep(ended: Mapping[str, Any]) -> None:
            own = {item["id"]: orjson.dumps(item) for item in (*new, *ended["output"])}
            put(response_id, StoredResponse(orjson.dumps(ended), items, own))

        return keep


def open_conversation(body: ResponsesRequest, store: ResponseStore, tenant: str, max_bytes: int) -> StoredConversation:
    """Return a request with the stored items that it refers to.

    Call it on the thread that owns the store. max_bytes: of all items that references add.
    Raises RequestError for an unknown id, UnsupportedParameterError for `store: true` if the server stores nothing.
    """
    earlier = _earlier(store, tenant, body.previous_response_id)
    given = resolve(body.input, earlier, lambda item_id: store.find_item(tenant, item_id), max_bytes)
    if body.store and not store.keeps_any:
        raise UnsupportedParameterError(
            "store: this server keeps no responses; send false, and the whole conversation each time", param="store"
        )

    def put(response_id: str, response: StoredResponse) -> None:
        store.put(tenant, response_id, response)

    keeps = body.store is not False and store.keeps_any
    return StoredConversation(body, earlier, given, put if keeps else None)


def _earlier(store: ResponseStore, tenant: str, previous_response_id: str | None) -> list[dict[str, Any]]:
    """Return the items of the conversation up to the end of an earlier response. Raises RequestError."""
    if previous_response_id is None:
        return []
    previous = store.get(tenant, previous_response_id)
    if previous is None:
        raise RequestError(
            "previous_response_id: no stored response has this id; it may have made room for others. "
            "Send the whole conversation as input",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return [*orjson.loads(previous.items), *orjson.loads(previous.body)["output"]]


def resolve(
    items: Sequence[Item],
    earlier: Sequence[Mapping[str, Any]],
    find: Callable[[str], bytes | None],
    max_bytes: int,
) -> list[Item]:
    """Return the items, with stored items in the place of the references to them.

    A reference to an item that the conversation already has, in `earlier` or before it, stays: it adds nothing.
    find: returns an item as JSON. max_bytes: of all items that references add.
    Raises RequestError for an unknown id, and for more bytes.
    """
    present = {item["id"] for item in earlier}
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
