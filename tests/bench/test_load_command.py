"""`infrs-bench load` from its command line to its files."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner
from sse_server import FakeServer, Script, answer, event, piece, serving

from infrs.bench import entry as cli
from infrs.bench import plots
from infrs.bench.load_cli import load
from infrs.bench.transport import ServerError

PNG = b"\x89PNG\r\n\x1a\n"


@contextmanager
def running(script: Script) -> Iterator[FakeServer]:
    """A fake server on a loop of its own, for a command that runs its own loops."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    servers: list[FakeServer] = []
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(script) as fake:
            servers.append(fake)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    try:
        yield servers[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_table_marks_a_server_without_counts() -> None:
    with (
        running(lambda body: answer("a", "b")) as counts,
        running(lambda body: [piece("a"), event("[DONE]")]) as silent,
    ):
        urls = [f"http://127.0.0.1:{fake.port}" for fake in (counts, silent)]
        options = ["--concurrency", "1", "--rounds", "1", "--conversations", "1"]
        done = CliRunner().invoke(load, [*urls, *options], catch_exceptions=False)
        alone = CliRunner().invoke(load, [urls[0], *options], catch_exceptions=False)
    assert re.search(r"output tokens by +usage +pieces", done.stdout)
    assert "output tokens by" not in alone.stdout


def test_two_servers_compared(tmp_path: Path) -> None:
    json_path = tmp_path / "out.json"
    words = ["w "] * 6
    with (
        running(lambda body: answer(*words, pause=0.002)) as fast,
        running(lambda body: answer(*words, pause=0.05)) as slow,
    ):
        urls = [f"http://127.0.0.1:{fake.port}" for fake in (fast, slow)]
        options = ["--name", "fast", "--name", "slow", "--concurrency", "1,2", "--rounds", "2", "--conversations", "2"]
        files = ["--json", str(json_path), "--plots", str(tmp_path / "plots")]
        done = CliRunner().invoke(
            load, [*urls, *options, *files, "--body", '{"ignore_eos": true}'], catch_exceptions=False
        )
    assert done.exit_code == 0
    assert done.stdout.count("fast is better by") == 2
    assert re.search(r"output tokens/s +[\d.]+ +[\d.]+ +[\d.]+x \([\d.]+-[\d.]+\)", done.stdout)
    # A warm-up, then two levels of two rounds of two conversations: the same ones for both servers.
    assert [body["model"] for body in fast.bodies] == ["first/model"] * 9
    assert all(body["ignore_eos"] is True for body in fast.bodies)
    contents = [[body["messages"][0]["content"] for body in fake.bodies] for fake in (fast, slow)]
    assert sorted(contents[0]) == sorted(contents[1])
    assert len(set(contents[0])) == 9
    document = orjson.loads(json_path.read_bytes())
    assert [level["level"]["concurrency"] for level in document["levels"]] == [1, 2]
    level = document["levels"][0]
    assert [len(level["rounds"][name]) for name in ("fast", "slow")] == [2, 2]
    assert level["rounds"]["fast"][0]["errors"] == 0
    assert level["ratios"]["slow"]["output_per_s"]["median"] > 1.5
    assert level["ratios"]["slow"]["total.p50"]["median"] > 1.5
    assert len(level["samples_of_last_round"]["slow"][0]["arrivals"]) == 6
    assert "api_key" not in document["options"]
    assert [path.name for path in sorted((tmp_path / "plots").iterdir())] == ["gaps.png", "throughput.png"]
    assert all(path.read_bytes().startswith(PNG) for path in (tmp_path / "plots").iterdir())


def test_an_open_loop_from_a_prompt_set(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Why?\nHow?\n")
    with running(lambda body: answer("x")) as fake:
        url = f"http://127.0.0.1:{fake.port}/v1"
        options = [
            "--model",
            "named",
            "--rate",
            "200",
            "--rounds",
            "1",
            "--conversations",
            "4",
            "--prompts",
            str(prompts),
        ]
        done = CliRunner().invoke(load, [url, *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert "200/s" in done.stdout
    assert {body["model"] for body in fake.bodies} == {"named"}
    assert sorted(body["messages"][0]["content"] for body in fake.bodies[1:]) == ["How?", "How?", "Why?", "Why?"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--concurrency", "1,x"], "numbers separated by commas"),
        (["--rate", "0"], "above 0"),
        (["--body", "[]"], "JSON object"),
        (["--model", "a", "--model", "b"], "--model once"),
        (["--name", "a", "--name", "b", "--model", "m"], "--name once"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(load, ["http://127.0.0.1:9", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_server_that_fails_the_first_request_ends_the_run() -> None:
    with running(lambda body: []) as fake, pytest.raises(ServerError, match="fails the first request"):
        CliRunner().invoke(load, [f"http://127.0.0.1:{fake.port}", "--model", "m"], catch_exceptions=False)


def test_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["infrs-bench", "load", "nonsense"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("infrs-bench: 'nonsense' is no URL")
    assert error.count("\n") == 1


def test_plots_need_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(plots.PlotError, match=r"pip install .*\[bench\]"):
        plots.require()


def test_the_command_has_both_parts() -> None:
    assert isinstance(cli.command, click.Group)
    assert sorted(cli.command.commands) == ["engine", "load"]
