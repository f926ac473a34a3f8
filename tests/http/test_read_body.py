"""A long body is parsed and validated in a text thread, a short one on the event loop; both give the same."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from infrs.core import RequestContext
from infrs.errors import RequestError
from infrs.http.routes.generate import LONG_BODY, Parsed, read_body
from infrs.models.text_pool import TextPool

FORMAT = {"type": "json_object"}


def read(fields: dict[str, Any]) -> tuple[Parsed[Any], str]:
    """Return the parsed body, and the name of the thread that validated it."""
    names: list[str] = []

    def parse(payload: dict[str, Any]) -> dict[str, Any]:
        names.append(threading.current_thread().name)
        if "bad" in payload:
            raise RequestError("bad is not allowed", param="bad")
        return payload

    async def run() -> Parsed[Any]:
        pool = TextPool(max_waiting=1, queue_timeout=60)
        try:
            app = SimpleNamespace(ctx=SimpleNamespace(state=SimpleNamespace(in_thread=pool.run)))
            context = RequestContext.start("r", "tenant", 60)
            request: Any = SimpleNamespace(app=app, ctx=SimpleNamespace(context=context), body=orjson.dumps(fields))
            return await read_body(request, parse)
        finally:
            pool.close()

    return asyncio.run(run()), names[0]


@pytest.mark.parametrize(
    ("fields", "thread", "is_long"),
    [
        ({}, "MainThread", False),
        ({"response_format": FORMAT}, "MainThread", True),
        ({"response_format": None}, "MainThread", False),
        ({"text": "x" * LONG_BODY}, "infrs-long-text_0", True),
        ({"list": [1] * LONG_BODY}, "infrs-long-text_0", True),
    ],
    ids=["short", "with a grammar", "without a grammar", "long text", "long list"],
)
def test_the_thread_that_reads_a_body(fields: dict[str, Any], thread: str, is_long: bool) -> None:
    assert read(fields) == (Parsed(fields, is_long), thread)


@pytest.mark.parametrize("text", ["", "x" * LONG_BODY], ids=["short", "long"])
def test_an_invalid_body_is_refused_by_name(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        read({"text": text, "bad": True})
    assert refused.value.param == "bad"


@pytest.mark.parametrize("bad", [{}, {"bad": True}], ids=["valid", "invalid"])
def test_no_garbage_is_collected_while_a_body_is_parsed_and_validated(bad: dict[str, Any]) -> None:
    """The collector would walk all objects of a body every time that they have grown by a quarter."""
    fields = {"list": [[] for _ in range(30_000)], **bad}
    collections: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        collections.append(phase)

    gc.callbacks.append(note)
    try:
        with suppress(RequestError):
            read(fields)
        assert collections.count("start") <= 3  # 30,000 lists would begin forty
    finally:
        gc.callbacks.remove(note)
    assert gc.isenabled()
