"""The stored items that `item_reference` items of a request name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from infrs.api.responses.items import Item, ItemReference, parse_items
from infrs.errors import RequestError


def resolve(
    items: Sequence[Item],
    earlier: Sequence[Mapping[str, Any]],
    find: Callable[[str], bytes | None],
    max_bytes: int,
) -> list[Item]:
    """Put stored items in the places of the references to them.

    A reference to an item that the conversation has already, in `earlier` or before it, stays: it adds nothing.
    find: returns an item of the client's as JSON. max_bytes: of all items that are put in.
    Raises RequestError for an unknown id, and for more bytes.
    """
    present = {item["id"] for item in earlier}
    resolved: list[Item] = []
    for index, item in enumerate(items):
        told = item
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
            [told] = parse_items([orjson.loads(found)])
        present.add(item.id)
        resolved.append(told)
    return resolved
