"""The names of the parts of a request that are accepted and change nothing, for the header `x-infrs-ignored`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, cast, get_args

from pydantic.fields import FieldInfo

from infrs.api.common.fields import EMPTY, Body

HEADER = "x-infrs-ignored"
_MAX_CHARS = 1024
_MORE = ", ..."


def ignored(body: Body) -> list[str]:
    """Return the names of the hints that a request sets, such as `user` or `messages[].content[].cache_control`.

    A hint at an empty value asks for nothing. A name has no indices, and occurs once.
    """
    return [*dict.fromkeys(_walk(body, ""))]


def header(names: Iterable[str]) -> dict[str, str]:
    """Return the response header of these names: at most 1,024 characters, or no header without names."""
    value = ", ".join(names)
    if len(value) > _MAX_CHARS:
        value = value[: _MAX_CHARS - len(_MORE)].rpartition(", ")[0] + _MORE
    return {HEADER: value} if value else {}


def _walk(body: Body, prefix: str) -> Iterator[str]:
    hints, parts = _plan(type(body))
    for name, shown, neutral in hints:
        if not any(getattr(body, name) == value for value in neutral):
            yield prefix + shown
    for name, shown in parts:
        value = getattr(body, name)
        if isinstance(value, list):
            for element in value:
                if isinstance(element, Body):
                    yield from _walk(element, f"{prefix}{shown}[].")
        elif isinstance(value, Body):
            yield from _walk(value, f"{prefix}{shown}.")


@cache
def _plan(kind: type[Body]) -> tuple[list[tuple[str, str, tuple[object, ...]]], list[tuple[str, str]]]:
    """Return the hints of a body and the fields that may hold bodies, each as (attribute, name on the wire).

    A hint has its neutral values too: null, the empty ones, and those of its annotation.
    """
    hints, parts = [], []
    for name, field in kind.model_fields.items():
        shown = field.alias or name
        annotations = [field, *_annotations(field.annotation)]
        neutral = next(filter(None, map(_neutral, annotations)), None)
        if neutral is not None:
            hints.append((name, shown, neutral))
        elif any(isinstance(part, type) and issubclass(part, Body) for part in annotations):
            parts.append((name, shown))
    return hints, parts


def _annotations(annotation: Any) -> Iterator[Any]:  # noqa: ANN401  # any annotation, or a part of its metadata
    """Yield an annotation and its parts, metadata included."""
    yield annotation
    for part in get_args(annotation):
        yield from _annotations(part)


def _neutral(part: object) -> tuple[object, ...] | None:
    """Return the neutral values of a hint; None if a part of an annotation marks none."""
    extra = part.json_schema_extra if isinstance(part, FieldInfo) else None
    if not isinstance(extra, dict) or "x-hint" not in extra:
        return None
    return (None, *EMPTY, *cast(list[object], extra["x-neutral"]))
