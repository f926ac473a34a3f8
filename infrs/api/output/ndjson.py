"""Lines of JSON of a streamed answer (https://github.com/ndjson/ndjson-spec)."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

CONTENT_TYPE = "application/x-ndjson"


def line(payload: Mapping[str, object]) -> bytes:
    """Return a line with one object."""
    return orjson.dumps(payload, option=orjson.OPT_APPEND_NEWLINE)
