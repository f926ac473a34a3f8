"""`infrs chat` over a real server: one question, and a conversation at a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "http"))
from fake_process import MODEL, FakeServer, fake_server

RUN = [sys.executable, "-c", "from infrs.terminal.group import main; main()", "chat"]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with fake_server(keys="key-of-the-chat-0123456789") as server:
        yield server


def ask(server: FakeServer, *arguments: str, piped: str = "") -> subprocess.CompletedProcess[str]:
    command = [*RUN, "--url", f"http://127.0.0.1:{server.port}", "--api-key", "key-of-the-chat-0123456789"]
    return subprocess.run([*command, *arguments], input=piped, capture_output=True, text=True, timeout=60, check=False)


def test_one_question_is_answered_on_standard_output(server: FakeServer) -> None:
    done = ask(server, "-p", "hi", "--max-tokens", "3", "--stats")
    assert (done.returncode, done.stdout) == (0, "w0 w1 w2 \n")
    assert re.search(r"\d+ prompt tokens, first token after [\d.]+ s, 3 tokens", done.stderr)
    assert "cut at its token limit" in done.stderr


def test_a_piped_text_is_the_question(server: FakeServer) -> None:
    assert ask(server, MODEL, "--max-tokens", "2", piped="hello\n").stdout == "w0 w1 \n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["other/model"], f"has no model other/model; it has {MODEL}"),
        (["-t", "9"], "temperature"),
        (["-p", "boom"], "failed"),
    ],
)
def test_an_error_is_one_line_with_exit_code_1(server: FakeServer, arguments: list[str], message: str) -> None:
    done = ask(server, *arguments, piped="hi")
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_server_out_of_reach_is_named() -> None:
    done = subprocess.run(
        [*RUN, "--url", "http://127.0.0.1:1", "-p", "hi"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "http://127.0.0.1:1/v1 cannot be reached" in done.stderr


def test_a_conversation_at_a_terminal(server: FakeServer, tmp_path: Path) -> None:
    person, terminal = pty.openpty()
    command = [*RUN, "--url", f"http://127.0.0.1:{server.port}", "--api-key", "key-of-the-chat-0123456789"]
    environment = os.environ | {"HOME": str(tmp_path), "TERM": "dumb"}
    process = subprocess.Popen(
        [*command, "--max-tokens", "2"], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    saved = tmp_path / "chat.json"

    def type_and_await(text: str, expected: str) -> None:
        os.write(person, text.encode())
        seen = ""
        while not re.search(expected, seen, re.DOTALL):
            assert select.select([person], [], [], 20)[0], f"{expected!r} is not in {seen!r}"
            seen += os.read(person, 4096).decode()

    type_and_await("", ">>> ")
    type_and_await("hi\n", "w0 w1")
    type_and_await('"""two\nlines"""\n', "w0 w1")
    type_and_await("/nonsense\n", "there is no command /nonsense")
    type_and_await(f"/save {saved}\n", "Saved to .*>>> ")  # readline has the terminal again
    type_and_await("\x04", "\n")
    assert process.wait(20) == 0
    os.close(person)
    assert '"two\\nlines"' in saved.read_text()
    history = tmp_path / ".infrs_history"
    assert not history.exists() or history.stat().st_mode & 0o077 == 0
