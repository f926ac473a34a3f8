"""OpenAI's client for Python, unchanged: files and batches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fake_process import MODEL, fake_server
from openai.types import Batch, FileObject

SECONDS = 60.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    options = {"files_dir": str(tmp_path_factory.mktemp("files")), "access_log": False}
    script = Path(__file__).parent / "scripted_server.py"
    with fake_server(script=script, rows=4, max_queue=16, server=options) as server:
        yield openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="unused", max_retries=0, timeout=30)


def upload(client: openai.OpenAI, folder: Path, *lines: dict[str, Any], **fields: Any) -> FileObject:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with path.open("rb") as file:
        return client.files.create(file=file, purpose="batch", **fields)


def chat(custom_id: str, text: str) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"say:{text}"}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def wait(client: openai.OpenAI, batch: Batch) -> Batch:
    end = time.monotonic() + SECONDS
    while batch.status not in ("completed", "failed", "cancelled", "expired"):
        assert time.monotonic() < end
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def test_a_batch_from_its_upload_to_its_answers(client: openai.OpenAI, tmp_path: Path) -> None:
    file = upload(
        client,
        tmp_path,
        *(chat(str(number), f"answer {number}") for number in range(20)),
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (file.filename, file.purpose, file.status) == ("in.jsonl", "batch", "processed")
    assert file.expires_at == file.created_at + 3600
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"name": "test"},
        output_expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert batch.metadata == {"name": "test"}
    done = wait(client, batch)
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.error_file_id) == (20, 20, None)
    assert done.output_file_id is not None
    output = client.files.retrieve(done.output_file_id)
    assert (output.purpose, output.expires_at) == ("batch_output", output.created_at + 7200)
    answers = [json.loads(line) for line in client.files.content(done.output_file_id).iter_lines()]
    texts = {each["custom_id"]: each["response"]["body"]["choices"][0]["message"]["content"] for each in answers}
    assert texts == {str(number): f"answer {number}" for number in range(20)}
    assert client.files.wait_for_processing(file.id).id == file.id
    assert {file.id, output.id} <= {each.id for each in client.files.list(limit=1)}
    assert [each.id for each in client.files.list(purpose="batch_output", order="asc")] == [output.id]
    assert batch.id in {each.id for each in client.batches.list(limit=1)}
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_a_batch_is_cancelled(client: openai.OpenAI, tmp_path: Path) -> None:
    file = upload(client, tmp_path, *(chat(str(number), "word " * 300) for number in range(200)))
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    assert wait(client, batch).cancelled_at


def test_errors_are_the_clients_own(client: openai.OpenAI, tmp_path: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=b"x", purpose="fine-tune")
    with pytest.raises(openai.NotFoundError, match="no file has this id"):
        client.batches.create(input_file_id="file-x", endpoint="/v1/completions", completion_window="24h")
    with pytest.raises(openai.NotFoundError, match="no batch has this id"):
        client.batches.retrieve("batch_x")
    file = upload(client, tmp_path, chat("a", "x"), chat("a", "x"))
    failed = wait(
        client,
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"),
    )
    assert failed.errors is not None
    assert failed.errors.data is not None
    assert [(error.line, error.param) for error in failed.errors.data] == [(2, "custom_id")]
