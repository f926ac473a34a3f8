"""`keep_alive` of Ollama's requests: how long a model stays loaded after them."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

_FOR_EVER = -1.0
_MAX_SECONDS = 1 << 24
# A duration of Go (https://pkg.go.dev/time#ParseDuration) has numbers with units, such as "1h30m". Seconds need none.
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_PART = re.compile(f"({_NUMBER})({'|'.join(_UNITS)})")
_DURATION = re.compile(f"([+-]?)(?:({_NUMBER})|((?:{_NUMBER}(?:{'|'.join(_UNITS)}))+))")
_MAX_CHARS = 64


def seconds_of(value: object) -> object:
    """Return a duration in seconds, -1 for ever, or None for an empty text. Return other values unchanged."""
    if value == "":
        return None
    if isinstance(value, str):
        found = _DURATION.fullmatch(value) if len(value) <= _MAX_CHARS else None
        if found is None:
            raise PydanticCustomError("duration", "not a duration; send seconds, or a text such as 5m or 1h30m")
        sign, number, parts = found.groups()
        seconds = float(number) if number else sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(parts))
        value = -seconds if sign == "-" else seconds
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return value
    return _FOR_EVER if value < 0 else float(min(value, _MAX_SECONDS))


KeepAlive = Annotated[
    Annotated[float, Field(ge=-1, le=_MAX_SECONDS)] | None,
    BeforeValidator(seconds_of, str | int | float | None),
]
