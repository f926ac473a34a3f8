"""`infrs batch`: its files, and runs over a real server, also one that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infrs.batches.lines import BatchError, answer_line, is_final, keep_answers
from infrs.terminal.batch import read_all

sys.path.append(str(Path(__file__).parents[1] / "http"))
from fake_classifier import CLASSIFIER_ID
from fake_process import FakeServer, fake_server

# A background job of a shell ignores SIGINT.
_DEFAULT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
RUN = [sys.executable, "-c", f"{_DEFAULT}; from infrs.terminal.group import main; main()", "batch"]


def line(custom_id: str, content: str = "hi", **body: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 3} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


def read(path: Path) -> dict[str, Any]:
    return {answer["custom_id"]: answer for answer in map(json.loads, path.read_text().splitlines())}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with fake_server(rows=8, interval=0.02, classifier="beside") as server:
        yield server


def command(server: FakeServer, requests: Path, answers: Path, *arguments: str) -> list[str]:
    return [*RUN, str(requests), str(answers), "--url", f"http://127.0.0.1:{server.port}", *arguments]


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, check=False)


def test_each_request_has_one_answer(server: FakeServer, tmp_path: Path) -> None:
    embedding = {"custom_id": "e", "url": "/v1/embeddings", "body": {"input": "hi"}}
    requests = write(tmp_path / "in", line("a"), line("b", temperature=9), line("c", "boom"), embedding)
    done = run(server, requests, tmp_path / "out", "--concurrency", "2")
    answers = read(tmp_path / "out")
    assert {name: answer["response"]["status_code"] for name, answer in answers.items()} == {
        "a": 200,
        "b": 400,
        "c": 500,
        "e": 400,
    }
    assert answers["a"]["response"]["body"]["choices"][0]["message"]["content"] == "w0 w1 w2 "
    assert answers["b"]["response"]["body"]["error"]["param"] == "temperature"
    assert answers["a"]["error"] is None
    assert done.returncode == 1
    assert "1 with status 200, 2 with status 400, 1 with status 500" in done.stderr


def test_lines_may_rerank_and_score(server: FakeServer, tmp_path: Path) -> None:
    texts = {
        "rerank": {"query": "abc", "documents": ["xyz", "cab"]},
        "score": {"text_1": "abc", "text_2": ["x", "cab"]},
    }
    lines = [{"custom_id": name, "url": f"/v1/{name}", "body": body} for name, body in texts.items()]
    done = run(server, write(tmp_path / "in", *lines), tmp_path / "out", CLASSIFIER_ID)
    assert done.returncode == 0, done.stderr
    bodies = {name: answer["response"]["body"] for name, answer in read(tmp_path / "out").items()}
    assert [each["index"] for each in bodies["rerank"]["results"]] == [1, 0]
    assert [each["index"] for each in bodies["score"]["data"]] == [0, 1]
    assert bodies["score"]["data"][1]["score"] == bodies["rerank"]["results"][0]["relevance_score"]


def test_the_same_command_continues(server: FakeServer, tmp_path: Path) -> None:
    requests, answers = write(tmp_path / "in", *(line(str(number)) for number in range(4))), tmp_path / "out"
    answers.write_bytes(
        answer_line("0", "0", 200, {"kept": True})
        + answer_line("1", "1", 429, {})
        + answer_line("2", "2", 200, {"cut": True})[:-9]
    )
    done = run(server, requests, answers)
    found = read(answers)
    assert (done.returncode, len(found)) == (0, 4)
    assert found["0"]["response"]["body"] == {"kept": True}
    assert "1 of 4 requests have an answer; 3 are left" in done.stderr
    assert run(server, requests, answers).stderr == "4 of 4 requests have an answer; 0 are left\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_loses_no_answer(server: FakeServer, tmp_path: Path, number: signal.Signals) -> None:
    requests = write(tmp_path / "in", *(line(str(number), max_tokens=8) for number in range(160)))
    answers = tmp_path / "out"
    with subprocess.Popen(command(server, requests, answers), stderr=subprocess.PIPE, text=True) as process:
        server.wait_until(lambda: answers.exists() and answers.read_bytes().count(b"\n") >= 5, 30)
        process.send_signal(number)
        process.wait(20)
        assert process.stderr is not None
        if number == signal.SIGINT:
            assert "run the same command to continue" in process.stderr.read()
    before = answers.read_text().splitlines()[:5]
    assert run(server, requests, answers).returncode == 0
    after = answers.read_text().splitlines()
    assert after[:5] == before
    assert len(read(answers)) == len(after) == 160


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["x"], "line 1 is no JSON object"),
        ([line("a"), line("a")], "two requests have the custom_id 'a'"),
        ([line("")], "line 1: custom_id must be a text"),
        ([line("a") | {"method": "GET"}], "line 1: method must be POST"),
        ([line("a"), line("b") | {"url": "/v1/models"}], "line 2: url must be one of /v1/chat/completions, "),
        ([line("a") | {"body": []}], "line 1: body must be an object"),
        ([line("a", stream=True)], "line 1: body.stream must be false"),
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, lines: list[object], message: str) -> None:
    with pytest.raises(BatchError) as caught:
        read_all(write(tmp_path / "in", *lines))
    assert message in str(caught.value)


def test_bytes_that_are_no_json_are_named(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\xff\n")
    with pytest.raises(BatchError, match="line 1 is not valid JSON"):
        read_all(tmp_path / "in")


@pytest.mark.parametrize("content", ["text\n", '{"a": 1}\n', '{"custom_id": "other"}\n'])
def test_a_file_of_other_content_is_never_overwritten(tmp_path: Path, content: str) -> None:
    answers = tmp_path / "out"
    answers.write_text(content)
    with pytest.raises(BatchError, match="name another file"):
        keep_answers(answers, {"a"})
    assert answers.read_text() == content


@pytest.mark.parametrize(
    ("status", "final"), [(200, True), (400, True), (404, True), (422, True), (0, False), (401, False), (429, False)]
)
def test_errors_of_a_moment_are_asked_again(status: int, final: bool) -> None:  # a parameter
    assert is_final(status) is final
    assert not is_final(503)
