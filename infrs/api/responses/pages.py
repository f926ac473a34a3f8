"""The bodies of lists of items and of deletions."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from infrs.api.responses.store import StoredItem
from infrs.errors import RequestError

_MAX_PAGE = 100
_DEFAULT_PAGE = 20


def item_page(
    items: Sequence[StoredItem], *, order: str | None = None, limit: str | None = None, after: str | None = None
) -> bytes:
    """Return a page of items.

    order: `asc`, or `desc`, the default. limit: the most items, 20 by default. after: the id of the item before the
    page. Raises RequestError that names the argument.
    """
    if order not in (None, "asc", "desc"):
        raise RequestError("order: expected asc or desc", param="order")
    if limit is not None and not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MAX_PAGE):
        raise RequestError(f"limit: expected an integer from 1 to {_MAX_PAGE}", param="limit")
    if order != "asc":
        items = items[::-1]
    if after is not None:
        ids = [name for name, _ in items]
        if after not in ids:
            raise RequestError("after: this response has no such item; send the last_id of a page", param="after")
        items = items[ids.index(after) + 1 :]
    size = int(limit or _DEFAULT_PAGE)
    page = items[:size]
    first, last = (page[0][0], page[-1][0]) if page else (None, None)
    data = [orjson.Fragment(item) for _, item in page]
    return orjson.dumps(
        {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(items) > size}
    )


def deleted(response_id: str) -> bytes:
    """Return the body of a deletion."""
    return orjson.dumps({"id": response_id, "object": "response", "deleted": True})
