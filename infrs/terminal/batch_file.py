"""The files of a batch, in the form of OpenAI's Batch API: a request on each line in, its answer on each line out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from infrs.errors import InfrsError

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")


class BatchError(InfrsError):
    """A file of a batch cannot be read, or one of its lines is no request."""

    code = "invalid_batch"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A line of the input. custom_id: identifies its answer."""

    custom_id: str
    url: str
    body: dict[str, Any]


def read_requests(path: Path) -> list[BatchRequest]:
    """Read all requests of a file. Raises BatchError, which names the first line that is no request."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BatchError(f"{path} cannot be read ({error.strerror})") from None
    requests = [_request(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    seen: set[str] = set()
    for request in requests:
        if request.custom_id in seen:
            raise BatchError(f"{path}: two requests have the custom_id {request.custom_id!r}; each needs its own")
        seen.add(request.custom_id)
    return requests


def _request(place: str, line: bytes) -> BatchRequest:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BatchError(f"{place} is not valid JSON: {error.msg}") from None
    if not isinstance(fields, dict):
        raise BatchError(f"{place} is no JSON object")
    custom_id, method, url, body = (fields.get(name) for name in ("custom_id", "method", "url", "body"))
    if not isinstance(custom_id, str) or not custom_id:
        raise BatchError(f"{place}: custom_id must be a text")
    if method not in (None, "POST"):
        raise BatchError(f"{place}: method must be POST")
    if url not in URLS:
        raise BatchError(f"{place}: url must be one of {', '.join(URLS)}")
    if not isinstance(body, dict):
        raise BatchError(f"{place}: body must be an object")
    if body.get("stream"):
        raise BatchError(f"{place}: body.stream must be false: the answer is one line")
    return BatchRequest(custom_id, url, body)


def answer_line(request: BatchRequest, status: int, body: Any, error: str = "") -> bytes:  # noqa: ANN401  # JSON
    """Return the line of an answer. status: 0 if the server did not answer, and then `error` says why."""
    response = {"status_code": status, "request_id": request.custom_id, "body": body} if status else None
    failure = None if status else {"code": "no_answer", "message": error}
    line = {"id": f"batch_req_{request.custom_id}", "custom_id": request.custom_id, "response": response}
    return orjson.dumps(line | {"error": failure}) + b"\n"


def keep_answers(path: Path, requests: list[BatchRequest]) -> set[str]:
    """Keep the final answers of an earlier run, and return their ids. Other lines are removed, so that they run again.

    Raises BatchError if the file holds an answer to none of the requests: it belongs to another batch.
    """
    if not path.exists():
        return set()
    ids = {request.custom_id for request in requests}
    kept = {}
    for line, answer in _answers(path):
        if answer["custom_id"] not in ids:
            raise BatchError(f"{path} has an answer to {answer['custom_id']!r}, which is no request; name another file")
        if is_final((answer.get("response") or {}).get("status_code", 0)):
            kept[answer["custom_id"]] = line
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(b"".join(line + b"\n" for line in kept.values()))
    os.replace(beside, path)
    return {*kept}


def is_final(status: int) -> bool:
    """Return whether a request with this status would get the same answer again. 0: the server did not answer."""
    return status != 0 and status not in (401, 403, 408, 429) and status < 500


def _answers(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the complete lines. A last line without an end is from a run that was killed."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            answer = orjson.loads(line)
            answer["custom_id"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            raise BatchError(f"{path} exists and holds no answers; name another file") from None
        yield line, answer
