"""Pages of a list, and deletions, as OpenAI's API has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from infrs.errors import RequestError

ARGUMENTS = ("after", "limit", "order")


def page(
    items: Sequence[tuple[str, Any]],
    *,
    order: str | None = None,
    limit: str | None = None,
    after: str | None = None,
    default: int = 20,
    most: int = 100,
) -> bytes:
    """Return a page of items, given as ids and JSON, oldest first.

    order: `asc`, or `desc`, the default. limit: the most items. after: the id of the item before the page. default,
    most: of `limit`. Raises RequestError that names the argument.
    """
    if order not in (None, "asc", "desc"):
        raise RequestError("order: expected asc or desc", param="order")
    if limit is not None and not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= most):
        raise RequestError(f"limit: expected an integer from 1 to {most}", param="limit")
    if order != "asc":
        items = items[::-1]
    if after is not None:
        ids = [name for name, _ in items]
        if after not in ids:
            raise RequestError("after: this list has no such item; send the last_id of a page", param="after")
        items = items[ids.index(after) + 1 :]
    size = int(limit or default)
    shown = items[:size]
    first, last = (shown[0][0], shown[-1][0]) if shown else (None, None)
    data = [item for _, item in shown]
    return orjson.dumps(
        {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(items) > size}
    )


def deleted(name: str, kind: str) -> bytes:
    """Return the body of a deletion. kind: of object."""
    return orjson.dumps({"id": name, "object": kind, "deleted": True})
