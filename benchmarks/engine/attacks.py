"""The attacks that `benchmarks.engine.attackers` measures. Add an entry to `ATTACKS` for a new one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import orjson

from infrs.bench.transport import Endpoint

BODY_BYTES = 4_000_000
_ALL = 1 << 30  # bytes a second: no limit
_CHAT, _COUNT = "/v1/chat/completions", "/v1/messages/count_tokens"


@dataclass
class Attacker:
    """A client that attacks a server. statuses: how often each HTTP status came back; "-" if none did."""

    endpoint: Endpoint
    model: str
    statuses: Counter[str] = field(default_factory=Counter)

    def head(self, path: str, length: int) -> bytes:
        """Return the head of a POST request."""
        key = f"Authorization: Bearer {self.endpoint.api_key}\r\n" if self.endpoint.api_key else ""
        return (
            f"POST {path} HTTP/1.1\r\nHost: {self.endpoint.host}\r\nContent-Type: application/json\r\n{key}"
            f"Connection: close\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    async def send(self, path: str, body: bytes, rate: int = _ALL) -> None:
        """POST a body and read the answer at `rate` bytes a second."""
        status = "-"
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(self.endpoint.host, self.endpoint.port, limit=1 << 10)
            try:
                writer.write(self.head(path, len(body)) + body)
                status = (await reader.readline()).decode().split(" ")[1:2][0]
                await read(reader, rate)
            except IndexError:
                pass  # the server closed the connection without an answer
            finally:
                writer.close()
        self.statuses[status] += 1


async def read(reader: asyncio.StreamReader, rate: int) -> None:
    """Read to the end of a connection, at `rate` bytes a second."""
    while await reader.read(min(rate, 1 << 16)):
        if rate < _ALL:
            await asyncio.sleep(1)


Run = Callable[[Attacker], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack that repeats until it is cancelled. prepare: makes its bodies before the measurement begins."""

    name: str
    prepare: Callable[[Attacker], Run]


def posts(
    path: str, bodies: Callable[[str], Iterator[Any]], num_clients: int = 1, rate: int = 1 << 30
) -> Callable[..., Run]:
    """Return an attack of `num_clients` clients that send the bodies for a model again and again.

    bodies: yields at most 64 different bodies for the model id. rate: bytes of an answer that a client reads a second.
    """

    def prepare(attacker: Attacker) -> Run:
        ready = cycle([orjson.dumps(body) for body in islice(bodies(attacker.model), 64)])

        async def client(attacker: Attacker) -> None:
            while True:
                await attacker.send(path, next(ready), rate)

        async def run(attacker: Attacker) -> None:
            await asyncio.gather(*(client(attacker) for _ in range(num_clients)))

        return run

    return prepare


def silent(count: int) -> Callable[..., Run]:
    """Return an attack of connections that send nothing."""

    async def hold(attacker: Attacker) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(attacker.endpoint.host, attacker.endpoint.port)
                try:
                    await reader.read(-1)
                finally:
                    writer.close()
            attacker.statuses["closed"] += 1

    async def run(attacker: Attacker) -> None:
        await asyncio.gather(*(hold(attacker) for _ in range(count)))

    return lambda attacker: run


def chat(content: object, **fields: object) -> Callable[[str], Iterator[object]]:
    """Return the body of a chat completion with one message."""

    def bodies(model: str) -> Iterator[object]:
        yield {"model": model, "messages": [{"role": "user", "content": content}], **fields}

    return bodies


def body(**fields: object) -> Callable[[str], Iterator[object]]:
    """Return one body."""

    def bodies(model: str) -> Iterator[object]:
        yield {"model": model, **fields}

    return bodies


def schemas(model: str) -> Iterator[object]:
    """Yield chat completions with schemas of their own, each of 400 optional properties."""
    draw = random.Random(1)
    while True:
        properties = {
            f"{name}_{draw.randrange(1 << 30)}": {"type": "string", "pattern": f"^[a-z]{{1,{draw.randrange(8, 30)}}}$"}
            for name in range(400)
        }
        schema = {"name": "s", "schema": {"type": "object", "properties": properties}}
        yield from chat("Hi", max_tokens=1, response_format={"type": "json_schema", "json_schema": schema})(model)


def nested(depth: int) -> object:
    """Return a list in lists."""
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


_WIDE: dict[str, Any] = {"temperature": 2, "max_tokens": 200}
_WORDS = " ".join(f"{number:x}" for number in range(20_000))  # over 60,000 tokens would be refused
_TURNS = [{"role": role, "content": "write more " * 40} for _ in range(1_000) for role in ("user", "assistant")]
_PART = {"type": "text", "text": ""}
_WIDE_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "wide", "schema": {"properties": {f"k{n}": {"type": "string"} for n in range(30_000)}}},
}
_CALL = {
    "role": "assistant",
    "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": f'{{"a": [{"[]," * 1_200_000}[]]}}'}}
    ],
}

ATTACKS = (
    # Amplified errors
    Attack(
        "4 MB of empty message parts", posts(_CHAT, body(messages=[{"role": "user", "content": [{}] * 1024}] * 1340))
    ),
    Attack("4 MB of invalid token ids", posts("/detokenize", body(tokens=["x"] * 1_000_000))),
    # Tokenising
    Attack("4 MB of digits to /tokenize", posts("/tokenize", body(content="7" * BODY_BYTES))),
    Attack("4 MB of digits in a message", posts(_CHAT, chat("7" * BODY_BYTES))),
    Attack("4 MB of digits to count_tokens", posts(_COUNT, chat("7" * BODY_BYTES))),
    Attack("1 M token ids to /detokenize", posts("/detokenize", body(tokens=[7] * (1 << 20)))),
    Attack("500,000 token ids to /detokenize", posts("/detokenize", body(tokens=[7] * 500_000))),
    Attack("30 count_tokens of 110 KB", posts(_COUNT, chat(_WORDS), num_clients=30)),
    # Grammars and templates
    Attack("16 compilations of schemas", posts(_CHAT, schemas, num_clients=16)),
    Attack("a conversation of 2,000 turns", posts("/apply-template", body(messages=_TURNS))),
    # JSON
    Attack("40,000 lists, 50 deep", posts(_CHAT, chat("Hi", metadata=[nested(50)] * 40_000))),
    Attack("1.3 M empty lists", posts(_CHAT, chat("Hi", metadata=[[]] * 1_300_000))),
    Attack("1.3 M empty stop strings", posts(_CHAT, chat("Hi", stop=[""] * 1_300_000))),
    Attack("2 M stop token ids", posts(_CHAT, chat("Hi", stop_token_ids=[1] * 2_000_000))),
    Attack("280,000 keys", posts(_CHAT, chat("Hi", metadata={f"k{number}": "" for number in range(280_000)}))),
    Attack("100,000 messages", posts(_CHAT, body(messages=[{"role": "user", "content": ""}] * 100_000))),
    Attack("31,000 message parts", posts(_CHAT, body(messages=[{"role": "user", "content": [_PART] * 1_000}] * 31))),
    Attack("31,000 tools", posts(_CHAT, chat("Hi", tools=[{}] * 31_000))),
    Attack("a schema of 30,000 properties", posts(_CHAT, chat("Hi", response_format=_WIDE_SCHEMA))),
    Attack("1 M token ids as a prompt", posts("/v1/completions", body(prompt=[1] * 1_000_000))),
    Attack("4 MB of escapes", posts(_CHAT, chat('\\"' * 1_000_000))),
    Attack("1.2 M lists in arguments", posts(_CHAT, body(messages=[_CALL]))),
    # Sampling
    Attack("min_p 0.001 at temperature 2", posts(_CHAT, chat("Continue.", min_p=0.001, **_WIDE))),
    Attack("typical_p 0.999 at temperature 2", posts(_CHAT, chat("Continue.", typical_p=0.999, **_WIDE))),
    Attack("top_p 0.999 at temperature 2", posts(_CHAT, chat("Continue.", top_p=0.999, **_WIDE))),
    # Connections
    Attack(
        "a reader of 1 KiB/s, n=8 and 20 logprobs",
        posts(
            _CHAT,
            chat("Continue.", n=8, logprobs=True, top_logprobs=20, stream=True, max_tokens=2000, ignore_eos=True),
            rate=1 << 10,
        ),
    ),
    Attack("1,024 silent connections", silent(1024)),
)
