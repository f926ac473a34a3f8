"""An engine that lives but makes no step: `/ready` tells, then the process ends."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from fake_process import SLACK, fake_server

from infrs.engine.service import EngineStats
from infrs.server.watch import StallClock

TIMEOUT = 3.0


@pytest.mark.parametrize("stream", [False, True])
def test_a_stalled_engine_ends_the_process(stream: bool) -> None:
    """F18."""
    with fake_server(server={"stall_timeout": TIMEOUT}) as server, ThreadPoolExecutor(1) as pool:
        assert server.chat(max_tokens=2).status == 200
        time.sleep(0.7)
        assert server.get("/ready").status == 200  # idle is not stalled
        started = time.monotonic()
        waiting = pool.submit(server.chat, "stall", stream=stream)
        server.wait_until(lambda: server.get("/ready").status == 503, TIMEOUT)
        assert server.get("/ready").error == (503, "server_error", None, "engine_stalled")
        assert server.get("/health").status == 200
        assert waiting.result().error == (500, "server_error", None, "engine_error")
        assert server.process.wait(15) == 1
        assert TIMEOUT < time.monotonic() - started < TIMEOUT + 9 + SLACK  # 5 s of them the engine has to stop
        assert "the engine has made no step for 3 s; the server exits" in server.output()


def test_slow_steps_are_no_stall() -> None:
    with fake_server(interval=0.6, server={"stall_timeout": 1.5}) as server:
        assert server.chat(max_tokens=5).status == 200
        assert server.process.poll() is None


def test_waiting_for_work_does_not_count() -> None:
    now = time.monotonic()
    stats = EngineStats(0, 0, 1, 1, 1, 0, now - 100)
    engine = SimpleNamespace(snapshot=lambda: stats)
    clock = StallClock(engine)  # type: ignore[arg-type]
    assert clock.read() == 0
    stats = EngineStats(1, 0, 1, 1, 1, 0, now - 100)
    assert clock.read() < 1
    time.sleep(0.05)
    assert 0.05 <= clock.read() < 1
    stats = EngineStats(0, 1, 1, 1, 1, 1, time.monotonic())
    assert clock.read() < 0.05
