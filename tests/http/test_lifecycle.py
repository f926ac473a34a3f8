"""Loading, stopping, failing: what clients and the parent process see."""

import http.client
import json
import os
import pty
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_process import JSON, SCRIPT, SLACK, FakeServer, chat_body, fake_server


def finish(server: FakeServer) -> int:
    return server.process.wait(10)


def test_requests_are_refused_while_the_model_loads() -> None:
    with fake_server(wait_ready=False, load_seconds=1.0) as server:
        assert server.get("/health").status == 200
        for answer in (server.get("/ready"), server.get("/v1/models"), server.chat(), server.get("/props")):
            assert answer.error == (503, "server_error", None, "model_loading")
            assert answer.headers["retry-after"] == "1"
        server.wait_until(lambda: server.get("/ready").status == 200)
        assert server.chat(max_tokens=1).status == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_loading_ends_it_immediately(number: signal.Signals) -> None:
    with fake_server(wait_ready=False, load_seconds=30) as server:
        time.sleep(0.2)
        server.process.send_signal(number)
        assert server.process.wait(2) == -number
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("moment", ["before_server_start", "after_server_start"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_model_loads_ends_it(number: signal.Signals, moment: str) -> None:
    """The default action of a signal holds during the whole start."""
    code = f"""
import asyncio, os
from infrs.config.settings import Settings
from infrs.http.app import create_app, listen, run
from infrs.http.auth import Keys
settings = Settings.model_validate({{"server": {{"port": 0}}}})
app = create_app(settings, Keys(()), lambda models: asyncio.sleep(60), print)

@app.{moment}
async def interrupt(app):
    os.kill(os.getpid(), {int(number)})

run(app, listen(settings.server))
"""
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (-number, b"")


def test_a_hangup_ends_no_server() -> None:
    """A hangup has no effect while the server loads, serves and drains."""
    with fake_server(wait_ready=False, load_seconds=1.0, interval=0.02) as server, ThreadPoolExecutor(1) as pool:
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: server.get("/ready").status == 200)
        server.process.send_signal(signal.SIGHUP)
        running = pool.submit(server.chat, max_tokens=50)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        server.process.terminate()
        server.wait_until(lambda: server.get("/ready").status == 503)
        server.process.send_signal(signal.SIGHUP)
        assert running.result().json["usage"]["completion_tokens"] == 50
        assert finish(server) == 0
        assert server.output().count("server.api_keys_file is not set") == 2


def test_a_hangup_before_the_server_listens_stays_pending() -> None:
    code = """
import os, signal, sys, types
sys.modules["infrs.cli.serve"] = serving = types.ModuleType("infrs.cli.serve")
serving.serve = lambda: (os.kill(os.getpid(), signal.SIGHUP), print(signal.sigpending()))
from infrs.cli.entry import serve
serve()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{<Signals.SIGHUP: 1>}\n"


def test_a_pending_hangup_is_handled_once_the_loop_runs() -> None:
    code = """
import asyncio, os, signal
from infrs.http.lifecycle.drain_signals import on_hangup
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
os.kill(os.getpid(), signal.SIGHUP)

async def main():
    reread = asyncio.Event()
    on_hangup(reread.set)
    await asyncio.wait_for(reread.wait(), 10)

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_that_cannot_be_loaded_ends_the_process_in_one_line() -> None:
    with fake_server(wait_ready=False, load_seconds=0.3, fail="no such weights") as server:
        assert finish(server) == 1
        assert server.output() == "fake: no such weights\n"


def test_an_unexpected_failure_of_loading_is_logged() -> None:
    with fake_server(wait_ready=False, load_seconds=0.3, fail="unexpectedly") as server:
        assert finish(server) == 1
        log = server.output()
        assert "the model could not be loaded" in log
        assert "RuntimeError: nobody thought of this" in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_server_stops(number: signal.Signals) -> None:
    with fake_server() as server:
        assert server.get("/health").status == 200
        started = time.monotonic()
        server.process.send_signal(number)
        assert finish(server) == 0
        assert time.monotonic() - started < 2 + SLACK
        log = server.output()
        assert "Traceback" not in log
        assert "destroyed" not in log
        assert log.endswith(" INFO infrs.server: stopped\n")
        assert "waiting" not in log


def test_a_server_at_a_terminal_logs_only_its_stop() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, str(SCRIPT), json.dumps({})]
    with (
        subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, text=True) as process,
        os.fdopen(ours) as shown,
    ):
        os.close(theirs)
        while "ready" not in shown.readline():
            assert process.poll() is None
        process.terminate()
        _, log = process.communicate(timeout=10)
    assert [line.partition(" INFO ")[2] for line in log.splitlines()] == ["infrs.server: stopped"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("count", "awaited"), [(1, "1 request"), (2, "2 requests")])
def test_a_stopping_server_logs_the_requests_that_it_waits_for(
    number: signal.Signals, count: int, awaited: str
) -> None:
    with fake_server(interval=0.02, server={"drain_timeout": 12.5}) as server, ThreadPoolExecutor(count) as pool:
        running = [pool.submit(server.chat, max_tokens=20) for _ in range(count)]
        server.wait_until(lambda: server.gauge("infrs_requests_running") == count)
        server.process.send_signal(number)
        assert [answer.result().status for answer in running] == [200] * count
        logged = [line.partition(" INFO infrs.server: ")[2] for line in server.output().splitlines()]
    waits = f"stopping; waiting up to 12.5 s for {awaited}; a second signal ends it immediately"
    assert [line for line in logged if line.startswith("stop")] == [waits, "stopped"]


def test_drain_finishes_running_requests_and_refuses_new_ones() -> None:
    with fake_server(interval=0.02) as server, ThreadPoolExecutor(2) as pool:
        running = [pool.submit(server.chat, max_tokens=50, stream=stream) for stream in (False, True)]
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 2)
        server.process.terminate()
        time.sleep(0.2)
        refused = server.chat(max_tokens=1)
        assert refused.error == (503, "server_error", None, "server_draining")
        assert refused.headers["retry-after"] == "1"
        assert server.get("/health").status == 200
        assert server.get("/ready").error == (503, "server_error", None, "server_draining")
        whole, streamed = (answer.result() for answer in running)
        assert whole.json["usage"]["completion_tokens"] == 50
        assert streamed.events[-1] == "[DONE]"
        assert len(streamed.events) == 53
        started = time.monotonic()
        assert finish(server) == 0
        assert time.monotonic() - started < 1.5 + SLACK


def test_drain_is_bounded() -> None:
    options = {"drain_timeout": 0.3}
    with fake_server(interval=0.05, server=options) as server, ThreadPoolExecutor(2) as pool:
        whole, streamed = (pool.submit(server.chat, max_tokens=500, stream=stream) for stream in (False, True))
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 2)
        time.sleep(0.2)
        started = time.monotonic()
        server.process.terminate()
        assert whole.result().error == (503, "server_error", None, "server_draining")
        events = streamed.result().events
        assert events[-1]["error"]["code"] == "server_draining"
        assert finish(server) == 0
        assert time.monotonic() - started < 2.5 + SLACK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_drain(number: signal.Signals) -> None:
    with fake_server(interval=0.05) as server, ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.chat, max_tokens=500, stream=True)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        server.process.send_signal(number)
        time.sleep(0.3)
        assert server.process.poll() is None
        server.process.send_signal(number)
        assert server.process.wait(1 + SLACK) == -number
        assert running.exception() is not None  # cut, not ended


def test_a_keep_alive_client_does_not_hold_a_stopping_server() -> None:
    with fake_server() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/chat/completions", chat_body(max_tokens=1), JSON)
        assert connection.getresponse().read()
        started = time.monotonic()
        server.process.terminate()
        assert finish(server) == 0
        assert time.monotonic() - started < 2 + SLACK
        connection.close()


def test_a_dead_engine_ends_the_process() -> None:
    with fake_server() as server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.chat, "die")
        assert waiting.result().error == (500, "server_error", None, "engine_error")
        assert finish(server) == 1
        assert "the engine of fake/words has failed" in server.output()
