"""Stream an answer from a server: pieces of text in their order, and the pace."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from infrs.bench.transport import Endpoint, ServerError, events


class Kind(StrEnum):
    """What a piece of text belongs to."""

    REASONING = "reasoning_content"
    ANSWER = "content"


@dataclass
class Pace:
    """Counts of tokens, as the server says, and seconds: to the first text, and of the whole answer."""

    num_prompt: int = 0
    num_cached: int = 0
    num_answer: int = 0
    first: float = 0.0
    total: float = 0.0
    finish_reason: str = ""

    def __str__(self) -> str:
        seconds = self.total - self.first
        speed = f", {(self.num_answer - 1) / seconds:.1f} tokens/s" if self.num_answer > 1 and seconds > 0 else ""
        cached = f" ({self.num_cached} cached)" if self.num_cached else ""
        return (
            f"{self.num_prompt} prompt tokens{cached}, first token after {self.first:.2f} s, "
            f"{self.num_answer} tokens{speed}"
        )


async def stream_answer(endpoint: Endpoint, body: dict[str, Any], pace: Pace) -> AsyncGenerator[tuple[Kind, str]]:
    """Send a request and yield the pieces of its answer. Fills `pace`.

    Raises ServerError, also for an error that the server sends within the stream.
    """
    began = time.perf_counter()
    async with aclosing(events(endpoint, "/chat/completions", orjson.dumps(body))) as stream:
        async for data in stream:
            if data == b"[DONE]":
                break
            event = orjson.loads(data)
            if "error" in event:
                raise ServerError(str(event["error"].get("message", event["error"])))
            if usage := event.get("usage"):
                pace.num_prompt, pace.num_answer = usage["prompt_tokens"], usage["completion_tokens"]
                pace.num_cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            for choice in event.get("choices", ()):
                pace.finish_reason = choice.get("finish_reason") or pace.finish_reason
                for kind in Kind:
                    if text := choice["delta"].get(kind.value):
                        pace.total = time.perf_counter() - began
                        pace.first = pace.first or pace.total
                        yield kind, text
