"""Connections are accepted in batches, and cost nothing but a socket until their clients send something."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from infrs.http.connection.accept import Acceptor, Place
from infrs.http.connection.limits import Connections


class Protocol(asyncio.Protocol):
    """Records its place and what its client sends."""

    def __init__(self, opened: list[Protocol], place: Place) -> None:
        self.place, self.received, self.is_lost = place, b"", False
        opened.append(self)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


@dataclass
class Setting:
    """A listener with its acceptor, in an event loop, and clients in the same thread."""

    port: int
    connections: Connections
    opened: list[Protocol] = field(default_factory=list)
    clients: ExitStack = field(default_factory=ExitStack)
    on_open: Callable[[], object] = lambda: None

    def new_protocol(self, place: Place) -> Protocol:
        self.on_open()
        return Protocol(self.opened, place)

    @property
    def num_silent(self) -> int:
        return len(self.connections._silent)

    def connect(self, data: bytes = b"") -> socket.socket:
        client = self.clients.enter_context(socket.create_connection(("127.0.0.1", self.port), 5))
        client.sendall(data)
        client.setblocking(False)
        return client


@asynccontextmanager
async def accepting(limit: int = 1000, silence: float = 60.0) -> AsyncIterator[Setting]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        setting = Setting(listener.getsockname()[1], Connections(limit, limit))
        acceptor = Acceptor(listener, setting.connections, setting.new_protocol, silence)
        with setting.clients:
            acceptor.start()
            yield setting
            await acceptor.close()


async def until(reached: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    for _ in iter(reached, True):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


async def is_closed(client: socket.socket) -> bool:
    async with asyncio.timeout(5):
        try:
            return await asyncio.get_running_loop().sock_recv(client, 1) == b""
        except ConnectionResetError:
            return True


def test_a_flood_is_accepted_in_batches_and_opens_nothing() -> None:
    async def check() -> None:
        async with accepting() as setting:
            for _ in range(300):
                setting.connect()
            counts = [0]
            while counts[-1] < 300:
                await asyncio.sleep(0)
                counts.append(setting.num_silent)
            assert max(b - a for a, b in pairwise(counts)) <= 32
            assert len(asyncio.all_tasks()) == 1
            assert setting.opened == []

    asyncio.run(check())


def test_a_burst_of_clients_is_served_without_delay() -> None:
    async def check() -> None:
        async with accepting() as setting:
            for _ in range(100):
                setting.connect(b"hello")
            began = asyncio.get_running_loop().time()
            await until(lambda: [each.received for each in setting.opened] == [b"hello"] * 100)
            assert asyncio.get_running_loop().time() - began < 1

    asyncio.run(check())


def test_a_connection_keeps_its_place_when_it_opens() -> None:
    async def check() -> None:
        async with accepting(limit=2) as setting:
            first, second = setting.connect(), setting.connect()
            await until(lambda: setting.num_silent == 2)
            first.sendall(b"a")
            await until(lambda: any(each.received for each in setting.opened))
            setting.connections.begin(setting.opened[0].place)
            setting.connect()
            assert await is_closed(second)
            assert not setting.opened[0].is_lost

    asyncio.run(check())


def test_a_silent_connection_ends_at_its_deadline_or_with_its_client() -> None:
    async def check() -> None:
        async with accepting(silence=0.2) as setting:
            left = setting.connect()
            await until(lambda: setting.num_silent == 1)
            left.close()
            await until(lambda: setting.num_silent == 0)
            began = asyncio.get_running_loop().time()
            for client in [setting.connect(), setting.connect()]:
                assert await is_closed(client)
            assert 0.2 <= asyncio.get_running_loop().time() - began < 1
            assert not setting.connections._open
            assert setting.opened == []

    asyncio.run(check())


def test_a_connection_that_loses_its_place_while_it_opens_is_closed() -> None:
    """Its place has nothing to close then."""

    async def check() -> None:
        async with accepting(limit=1) as setting:
            setting.on_open = lambda: setting.connections.admit(Place("127.0.0.1", 0))
            assert await is_closed(setting.connect(b"a"))
            await until(lambda: setting.opened[0].is_lost)

    asyncio.run(check())


def test_the_end_of_a_server_closes_silent_connections() -> None:
    async def check() -> None:
        async with accepting() as setting:
            client = setting.connect()
            await until(lambda: setting.num_silent == 1)
            setting.clients.pop_all()
        assert await is_closed(client)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", setting.port))
        client.close()

    asyncio.run(check())
