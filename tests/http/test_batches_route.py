"""`/v1/files` and `/v1/batches` over a real socket: ownership, limits, restarts, and other requests' slots."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_classifier import CLASSIFIER_ID
from fake_encoder import EMBEDDING_ID
from fake_process import JSON, MODEL, Answer, FakeServer, fake_server

KEYS = ("first-key-0001", "second-key-002")
SECONDS = 60.0  # that a busy machine may take for a batch


def line(custom_id: str, url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    default = chat if url == "/v1/chat/completions" else {}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": MODEL} | default | body}


def form(content: bytes, *, filename: str = "in.jsonl", **fields: str) -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + content + b"\r\n--x--\r\n"
    return body, {"content-type": "multipart/form-data; boundary=x"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def upload(server: FakeServer, content: bytes, key: str = "", **fields: str) -> Answer:
    body, headers = form(content, **{"purpose": "batch", **fields})
    return server.request("POST", "/v1/files", body, headers | bearer(key))


def begin(server: FakeServer, lines: list[dict[str, Any]], key: str = "", **fields: Any) -> dict[str, Any]:
    file = upload(server, b"".join(json.dumps(each).encode() + b"\n" for each in lines), key).json
    url = lines[0]["url"]
    body = {"input_file_id": file["id"], "endpoint": url, "completion_window": "24h"} | fields
    answer = server.request("POST", "/v1/batches", json.dumps(body).encode(), JSON | bearer(key))
    assert answer.status == 200, answer.body
    return dict(answer.json)


def get(server: FakeServer, path: str, key: str = "") -> Any:
    return server.request("GET", path, headers=bearer(key)).json


def until(server: FakeServer, batch: dict[str, Any], *statuses: str, key: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.update(get(server, f"/v1/batches/{batch['id']}", key))
        return found["status"] in statuses

    server.wait_until(reached, SECONDS)
    return found


def lines_of(server: FakeServer, file_id: str | None, key: str = "") -> dict[str, Any]:
    if file_id is None:
        return {}
    body = server.request("GET", f"/v1/files/{file_id}/content", headers=bearer(key)).body
    answers = [*map(json.loads, body.splitlines())]
    found = {answer["custom_id"]: answer for answer in answers}
    assert len(found) == len(answers), "a request has two lines"
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    options = {"files_dir": str(tmp_path_factory.mktemp("files")), "max_file_mb": 1, "access_log": False}
    encoders = {"embedding": "beside", "classifier": "beside"}
    with fake_server(rows=8, max_queue=20, server=options, keys=",".join(KEYS), **encoders) as running:
        yield running


FIRST, SECOND = KEYS


@pytest.mark.parametrize(
    ("url", "body", "volatile"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "Hi 😀"}], "max_tokens": 4, "seed": 1, "logprobs": True},
            ("id", "created"),
        ),
        ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 4, "n": 2, "seed": 2}, ("id", "created")),
        ("/v1/embeddings", {"model": EMBEDDING_ID, "input": ["a", "b"]}, ()),
        ("/v1/rerank", {"model": CLASSIFIER_ID, "query": "abc", "documents": ["xyz", "cab"], "top_n": 1}, ("id",)),
        ("/v1/score", {"model": CLASSIFIER_ID, "text_1": "abc", "text_2": ["xyz", "cab"]}, ("id", "created")),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 4, "store": False}, None),
    ],
)
def test_a_line_has_the_answer_of_its_endpoint(
    server: FakeServer, url: str, body: dict[str, Any], volatile: tuple[str, ...] | None
) -> None:
    body = {"model": MODEL} | body
    direct = server.request("POST", url, json.dumps(body).encode(), JSON | bearer(FIRST)).json
    done = until(server, begin(server, [line("a", url, **body)], FIRST), "completed", key=FIRST)
    assert done["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    [answer] = lines_of(server, done["output_file_id"], FIRST).values()
    found = answer["response"]["body"]
    assert (answer["response"]["status_code"], answer["error"]) == (200, None)
    assert answer["response"]["request_id"]
    if volatile is None:
        assert found["output"][0]["content"] == direct["output"][0]["content"]
        assert found["usage"] == direct["usage"]
    else:
        assert {name: value for name, value in found.items() if name not in volatile} == {
            name: value for name, value in direct.items() if name not in volatile
        }


def test_errors_are_in_a_file_of_their_own(server: FakeServer) -> None:
    lines = [line("ok"), line("wrong", temperature=9), line("missing", model="other")]
    done = until(server, begin(server, lines, FIRST, metadata={"a": "b"}), "completed", key=FIRST)
    assert done["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert done["metadata"] == {"a": "b"}
    assert {*lines_of(server, done["output_file_id"], FIRST)} == {"ok"}
    errors = lines_of(server, done["error_file_id"], FIRST)
    assert errors["wrong"]["response"]["status_code"] == 400
    assert errors["wrong"]["response"]["body"]["error"]["param"] == "temperature"
    assert errors["missing"]["response"]["body"]["error"]["code"] == "model_not_found"


def test_a_file_with_wrong_lines_fails_with_their_numbers(server: FakeServer) -> None:
    lines = [line("a"), line("a"), line("b", "/v1/embeddings"), line("c", stream=True)]
    failed = until(server, begin(server, lines, FIRST), "failed", key=FIRST)
    assert [(error["line"], error["param"]) for error in failed["errors"]["data"]] == [
        (2, "custom_id"),
        (3, "url"),
        (4, "stream"),
    ]
    assert failed["output_file_id"] is failed["error_file_id"] is None
    assert failed["failed_at"]


def test_another_key_sees_nothing(server: FakeServer) -> None:
    batch = until(server, begin(server, [line("a")], FIRST), "completed", key=FIRST)
    for name in (batch["input_file_id"], batch["output_file_id"]):
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            answer = server.request(method, f"/v1/files/{name}{path}", headers=bearer(SECOND))
            assert answer.error == (404, "invalid_request_error", "file_id", "file_not_found")
    for method, path in (("GET", ""), ("POST", "/cancel")):
        answer = server.request(method, f"/v1/batches/{batch['id']}{path}", headers=bearer(SECOND))
        assert answer.error == (404, "invalid_request_error", "batch_id", "batch_not_found")
    body = {"input_file_id": batch["input_file_id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    used = server.request("POST", "/v1/batches", json.dumps(body).encode(), JSON | bearer(SECOND))
    assert used.error == (404, "invalid_request_error", "file_id", "file_not_found")
    assert get(server, "/v1/files", SECOND)["data"] == get(server, "/v1/batches", SECOND)["data"] == []


def test_lists_have_pages(server: FakeServer) -> None:
    names = [upload(server, b"{}\n", FIRST).json["id"] for _ in range(5)]
    seen, after = [], ""
    while True:
        page = get(server, f"/v1/files?limit=2&order=asc&purpose=batch{after}", FIRST)
        seen += [file["id"] for file in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert len(seen) == len({*seen})
    assert {*names} <= {*seen}
    newest_first = [batch["created_at"] for batch in get(server, "/v1/batches?limit=100", FIRST)["data"]]
    assert newest_first == sorted(newest_first, reverse=True)
    for path in ("/v1/files?limit=0", "/v1/batches?limit=101", "/v1/files?after=other", "/v1/files?x=1"):
        assert server.request("GET", path, headers=bearer(FIRST)).status == 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"other": "x"}, "other"),
        ({"expires_after[seconds]": "60"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
    ],
)
def test_an_upload_with_a_wrong_field_stores_nothing(server: FakeServer, fields: dict[str, str], param: str) -> None:
    before = server.request("GET", "/metrics", headers=bearer(FIRST)).body
    refused = upload(server, b"x" * 1000, FIRST, **fields)
    assert (refused.status, refused.error[2]) == (400, param)
    after = server.request("GET", "/metrics", headers=bearer(FIRST)).body
    gauge = "infrs_stored_files_bytes "
    assert [row for row in before.decode().splitlines() if row.startswith(gauge)] == [
        row for row in after.decode().splitlines() if row.startswith(gauge)
    ]


@pytest.mark.parametrize("filename", ["../../etc/passwd", "/secret", "a\\\\b", "x" * 2000, "\u202e\u0007.jsonl", ""])
def test_the_name_of_a_file_is_only_shown(server: FakeServer, filename: str) -> None:
    stored = upload(server, b"{}\n", FIRST, filename=filename).json
    assert len(stored["filename"]) <= 255
    assert stored["filename"].isprintable()
    assert get(server, f"/v1/files/{stored['id']}", FIRST) == stored
    content = server.request("GET", f"/v1/files/{stored['id']}/content", headers=bearer(FIRST))
    assert (content.body, content.headers["content-length"]) == (b"{}\n", "3")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_file_beyond_the_limit_is_refused(server: FakeServer, is_chunked: bool) -> None:
    body, headers = form(b"x" * ((1 << 20) + 1), purpose="batch")
    sent: Any = (body[start : start + 50_000] for start in range(0, len(body), 50_000)) if is_chunked else body
    refused = server.request("POST", "/v1/files", sent, headers | bearer(FIRST))
    assert refused.error == (413, "invalid_request_error", "file", "file_too_large")
    exact = upload(server, b"x" * (1 << 20), FIRST).json
    assert exact["bytes"] == 1 << 20
    assert server.request("DELETE", f"/v1/files/{exact['id']}", headers=bearer(FIRST)).json["deleted"] is True
    assert server.request("GET", f"/v1/files/{exact['id']}", headers=bearer(FIRST)).status == 404


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--"),
    ],
)
def test_a_body_that_is_no_form_is_refused(server: FakeServer, content_type: str, body: bytes) -> None:
    refused = server.request("POST", "/v1/files", body, {"content-type": content_type} | bearer(FIRST))
    assert refused.status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"completion_window": "0h"},
        {"completion_window": "8d"},
        {"endpoint": "/v1/models"},
        {"input_file_id": ""},
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
    ],
)
def test_a_batch_with_a_wrong_field_is_refused(server: FakeServer, fields: dict[str, Any]) -> None:
    body = {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"} | fields
    refused = server.request("POST", "/v1/batches", json.dumps(body).encode(), JSON | bearer(FIRST))
    assert (refused.status, refused.error[2].split(".")[0]) == (400, next(iter(fields)))  # type: ignore[union-attr]


def test_without_a_directory_the_answer_names_the_setting() -> None:
    with fake_server(server={"access_log": False}) as server:
        body, headers = form(b"{}\n", purpose="batch")
        for method, path, sent in (
            ("POST", "/v1/files", body),
            ("GET", "/v1/files", None),
            ("GET", "/v1/files/file-1/content", None),
            ("GET", "/v1/batches/batch_1", None),
        ):
            answer = server.request(method, path, sent, headers)
            assert answer.error == (404, "invalid_request_error", None, "files_disabled")
            assert "server.files_dir" in answer.json["error"]["message"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_batch_continues_after_a_restart(tmp_path: Path, number: signal.Signals) -> None:
    """Finished lines are kept as they are, a line that was cut off is answered again, and each has one answer."""
    options = {"files_dir": str(tmp_path), "access_log": False, "drain_timeout": 5}
    start = {"rows": 4, "max_queue": 8, "server": options}
    with fake_server(interval=0.02, **start) as server:
        lines = [line(str(number), temperature=9) if number % 10 == 3 else line(str(number)) for number in range(60)]
        batch = begin(server, lines)
        server.wait_until(
            lambda: get(server, f"/v1/batches/{batch['id']}")["request_counts"]["completed"] >= 8, SECONDS
        )
        server.process.send_signal(number)
        server.process.wait(30)
    outputs = [path for path in (tmp_path / "files").glob("*.data") if batch["input_file_id"] not in path.name]
    output = max(outputs, key=lambda path: path.stat().st_size)
    before = output.read_bytes().splitlines(keepends=True)[:8]
    with output.open("ab") as file:
        file.write(b'{"custom_id": "59", "resp')  # as a kill in the middle of a write leaves it
    with fake_server(interval=0.0, **start) as server:
        done = until(server, batch, "completed")
        assert done["request_counts"] == {"total": 60, "completed": 54, "failed": 6}
        answers = lines_of(server, done["output_file_id"])
        assert len(answers) == 54
        assert len(lines_of(server, done["error_file_id"])) == 6
        body = server.get(f"/v1/files/{done['output_file_id']}/content").body
        assert body.splitlines(keepends=True)[:8] == before
    with fake_server(**start) as server:  # the end of a batch is final
        assert get(server, f"/v1/batches/{batch['id']}") == done


def test_a_batch_is_cancelled_and_keeps_its_answers(tmp_path: Path) -> None:
    with fake_server(rows=4, interval=0.05, server={"files_dir": str(tmp_path)}) as server:
        batch = begin(server, [line(str(number)) for number in range(200)])
        server.wait_until(
            lambda: get(server, f"/v1/batches/{batch['id']}")["request_counts"]["completed"] >= 3, SECONDS
        )
        in_use = server.request("DELETE", f"/v1/files/{batch['input_file_id']}")
        assert in_use.error == (400, "invalid_request_error", "file_id", "file_in_use")
        cancelled = server.request("POST", f"/v1/batches/{batch['id']}/cancel", b"")
        assert cancelled.json["status"] in ("cancelling", "cancelled")
        done = until(server, batch, "cancelled")
        server.wait_idle()
        assert done["cancelled_at"] >= done["cancelling_at"] >= done["in_progress_at"]
        assert 3 <= len(lines_of(server, done["output_file_id"])) == done["request_counts"]["completed"] < 200
        again = server.request("POST", f"/v1/batches/{batch['id']}/cancel", b"")
        assert again.error[0] == 400
        assert server.request("DELETE", f"/v1/files/{batch['input_file_id']}").status == 200


def test_a_batch_leaves_slots_to_other_requests(tmp_path: Path) -> None:
    """Another request never waits for a slot, and the sequences of batches stay within their limit."""
    options = {"files_dir": str(tmp_path), "access_log": False, "max_batch_rows": 3}
    with fake_server(rows=4, max_queue=20, interval=0.01, server=options) as server:
        begin(server, [line(str(number)) for number in range(400)])
        begin(server, [line(str(number), "/v1/completions", prompt=["a"] * 3, max_tokens=2) for number in range(50)])
        refused = begin(server, [line("many", "/v1/completions", prompt=["a"] * 2, n=2)])
        assert "server.max_batch_rows" in until(server, refused, "failed")["errors"]["data"][0]["message"]
        most, stop = [0.0], threading.Event()

        def watch() -> None:
            while not stop.is_set():
                most.append(server.gauge("infrs_batch_rows"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        for _ in range(10):
            assert server.chat(max_tokens=5).status == 200
            assert server.gauge("infrs_requests_waiting") == 0
        stop.set()
        watcher.join()
        assert 1 <= max(most) <= 3
