"""Threads that live but make no progress: `/ready` fails; a stalled engine ends the process."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_process import JSON, SLACK, Answer, chat_body, fake_server

from infrs.api.common.errors import EngineStalledError, TextStalledError
from infrs.engine.service import EngineStats
from infrs.errors import InfrsError
from infrs.http.lifecycle.watchdog import RunningTime, StallClock, stall_of

TIMEOUT = 3.0
FAULTY = Path(__file__).parent / "faulty_server.py"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stalled_engine_ends_the_process(stream: bool) -> None:
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
        log = server.output()
        assert "the engine of fake/words has made no step for 3 s; the server exits" in log
        assert "request failed: EngineError: 'the engine of fake/words has made no step for 3 s'" in log
        assert "Traceback" not in log


def test_a_stuck_text_thread_fails_ready_and_does_not_outlive_the_drain() -> None:
    options = {"stall_timeout": 2.0, "drain_timeout": 0.5}
    with fake_server(script=FAULTY, server=options) as server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.chat, "stuck")
        server.wait_until(lambda: server.get("/ready").status == 503, 10)
        assert server.get("/ready").error == (503, "server_error", None, "text_stalled")
        assert server.get("/health").status == 200
        assert server.chat(max_tokens=2).status == 200  # in the other thread
        started = time.monotonic()
        server.process.terminate()
        assert waiting.result().error == (503, "server_error", None, "server_draining")
        assert server.process.wait(10) == 0
        assert time.monotonic() - started < 4 + SLACK
        log = server.output()
        assert "/ready fails: work on the text of one request has taken over 0.5 s" in log
        assert "the process does not wait for it" in log
        assert "Traceback" not in log


def test_the_slow_texts_of_one_key_delay_no_other_key() -> None:
    """One key's texts take all its threads and places. Its next request is refused; another key's are answered."""
    keys = [{**JSON, "authorization": f"Bearer {name}-key-0123456789"} for name in ("first", "second")]

    def chat(key: int, content: str) -> Answer:
        return server.request("POST", "/v1/chat/completions", chat_body(content, max_tokens=2), keys[key])

    options = {"queue_timeout": 1.0, "request_timeout": 60.0}
    with (
        fake_server(
            script=FAULTY, keys="first-key-0123456789,second-key-0123456789", rows=2, max_queue=2, server=options
        ) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        stuck = [pool.submit(chat, 0, "stuck") for _ in range(2)]
        server.wait_until(lambda: chat(0, "hi").status == 503)
        assert chat(1, "hi").status == 200
        assert not any(each.done() for each in stuck)
        server.process.kill()


def test_a_request_does_not_wait_for_a_text_thread_beyond_its_timeout() -> None:
    with fake_server(script=FAULTY, server={"request_timeout": 1.0}) as server:
        assert server.chat("stuck").error == (503, "server_error", None, "request_timeout")
        assert server.get("/health").status == 200


@pytest.mark.parametrize(
    ("engine", "text", "kind"),
    [(0.0, 0.0, None), (2.0, 2.0, None), (2.1, 0.0, EngineStalledError), (0.0, 2.1, TextStalledError)],
)
def test_a_long_stall_fails_ready(engine: float, text: float, kind: type[InfrsError] | None) -> None:
    stall = stall_of(engine, text, 2.0)
    assert stall is None if kind is None else isinstance(stall, kind)


def test_slow_steps_are_not_a_stall() -> None:
    with fake_server(interval=0.6, server={"stall_timeout": 1.5}) as server:
        assert server.chat(max_tokens=5).status == 200
        assert server.process.poll() is None


def test_time_in_which_the_process_was_stopped_is_not_a_stall() -> None:
    """As `docker pause` and SIGSTOP stop it, in the middle of an answer."""
    with fake_server(interval=0.5, server={"stall_timeout": 3.0}) as server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.chat, max_tokens=8)
        time.sleep(1)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        server.process.send_signal(signal.SIGCONT)
        assert waiting.result().status == 200
        assert server.get("/ready").status == 200
        server.process.terminate()
        assert server.process.wait(10) == 0
        assert "/ready fails" not in server.output()


@pytest.mark.parametrize(
    ("ticks", "moment", "now", "expected"),
    [
        ([0.5, 1.0, 1.5], 0.2, 1.5, 1.3),  # on time
        ([0.5, 2.0, 2.5], 0.2, 2.5, 2.3),  # a late tick of a busy machine
        ([0.5, 100.0, 100.5], 0.2, 100.5, 1.3),  # 99 s late
        ([0.5, 100.0, 200.0], 0.2, 200.0, 1.3),  # twice
        ([0.5, 100.0, 100.5], 1.3, 100.5, 0.5),  # progress between the tick's due time and the pause
        ([0.5, 100.0, 100.5], 99.9, 100.5, 0.5),  # progress after the pause, before the tick
        ([0.5, 100.0, 100.5], 100.2, 100.5, 0.3),  # after the pause
        ([0.5, 1.0], 0.2, 100.0, 1.3),  # read before the late tick
        ([0.5, 1.0], 1.8, 100.0, 0.0),
    ],
)
def test_running_time_leaves_pauses_out(ticks: list[float], moment: float, now: float, expected: float) -> None:
    times = iter([0.0, 0.0, *ticks, now])
    running = RunningTime(lambda: next(times))
    for _ in range(len(ticks) + 1):
        running.tick(0.5)
    assert running.since(moment) == pytest.approx(expected)


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
