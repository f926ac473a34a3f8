"""The lines of a batch, in the form of OpenAI's Batch API: a request on each line in, its answer on each line out."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, get_args

import orjson

from infrs.api.batches.endpoints import Endpoint
from infrs.api.common.strict_json import check_counts
from infrs.errors import InfrsError, RequestError

URLS: tuple[str, ...] = get_args(Endpoint)
MAX_LINE = 64 << 20  # bytes
_MAX_ID = 512  # characters


class BatchError(InfrsError):
    """A file of a batch cannot be read, or one of its lines is no request. line: its number, None for the file."""

    code = "invalid_batch"
    exit_code = 2

    def __init__(self, message: str, *, line: int | None = None, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.line = line


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A line of the input. custom_id: identifies its answer."""

    custom_id: str
    url: str
    body: dict[str, Any]

    @property
    def num_answers(self) -> int:
        """Return about how many sequences the request runs: one for each prompt and choice."""
        choices, prompts = self.body.get("n"), self.body.get("prompt")
        several = isinstance(prompts, list) and any(isinstance(prompt, str | list) for prompt in prompts)
        return (choices if isinstance(choices, int) and choices > 0 else 1) * (len(prompts or ()) if several else 1)


def read_requests(
    path: Path, *, urls: Sequence[str] = URLS, max_line: int = MAX_LINE, max_answers: int | None = None
) -> Iterator[BatchRequest | BatchError]:
    """Yield each request of a file, or the error of a line that is none. The file is never in memory as a whole.

    urls: those that lines may name. max_answers: of a line, for each choice and prompt; None for any number. Raises
    BatchError if the file cannot be read, or has a line longer than `max_line` bytes.
    """
    seen: set[str] = set()
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(max_line + 1):
                number += 1
                if len(line) > max_line:
                    raise BatchError(f"line {number} is longer than {max_line:,} bytes; shorten it", line=number)
                if line.strip():
                    request = _request(number, line, urls, seen)
                    if isinstance(request, BatchRequest) and max_answers and request.num_answers > max_answers:
                        yield _too_many(number, request.num_answers, max_answers)
                    else:
                        yield request
    except OSError as error:
        raise BatchError(f"the file cannot be read ({error.strerror})") from None


def _too_many(number: int, num_answers: int, most: int) -> BatchError:
    allowed = f"server.max_batch_rows allows {most}; split it into several lines, or raise that"
    return BatchError(
        f"line {number}: body asks for {num_answers} answers together, and {allowed}", line=number, param="n"
    )


def _request(number: int, line: bytes, urls: Sequence[str], seen: set[str]) -> BatchRequest | BatchError:
    place = f"line {number}"
    try:
        check_counts(line, place)
        fields = orjson.loads(line)
    except RequestError as error:
        return BatchError(error.message, line=number)
    except orjson.JSONDecodeError as error:
        return BatchError(f"{place} is not valid JSON: {error.msg}", line=number)
    if not isinstance(fields, dict):
        return BatchError(f"{place} is no JSON object", line=number)
    for param, reason in _faults(fields, urls, seen):
        return BatchError(f"{place}: {reason}", line=number, param=param)
    seen.add(fields["custom_id"])
    return BatchRequest(fields["custom_id"], fields["url"], fields["body"])


def _faults(fields: dict[str, Any], urls: Sequence[str], seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the fault of each invalid field of a line."""
    custom_id, body = fields.get("custom_id"), fields.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _MAX_ID:
        yield "custom_id", f"custom_id must be a text of 1 to {_MAX_ID} characters"
    elif custom_id in seen:
        yield "custom_id", f"two requests have the custom_id {custom_id!r}; each needs its own"
    if fields.get("method") not in (None, "POST"):
        yield "method", "method must be POST"
    if fields.get("url") not in urls:
        yield "url", f"url must be {'' if len(urls) == 1 else 'one of '}{', '.join(urls)}"
    if not isinstance(body, dict):
        yield "body", "body must be an object"
    elif body.get("stream"):
        yield "stream", "body.stream must be false: the answer is one line"


def answer_line(custom_id: str, request_id: str, status: int, body: Any) -> bytes:  # noqa: ANN401  # JSON
    """Return the line of an answer. body: JSON, or orjson.Fragment."""
    return _line(custom_id, {"status_code": status, "request_id": request_id, "body": body}, None)


def error_line(custom_id: str, code: str, message: str) -> bytes:
    """Return the line of a request without an answer."""
    return _line(custom_id, None, {"code": code, "message": message})


def _line(custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    line = {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(line) + b"\n"


def keep_answers(path: Path, ids: Container[str] | None = None) -> set[str]:
    """Keep the final answers of an earlier run, and return their ids. Other lines are removed, so that they run again.

    ids: of the requests; None if the file is surely theirs. Raises BatchError, and changes nothing, if a line is no
    answer, or answers another request.
    """
    if not path.exists():
        return set()
    kept: set[str] = set()
    part = path.with_name(f".{path.name}.part")
    try:
        with path.open("rb") as file, part.open("wb") as copy:
            for line, answer in _answers(path, file):
                if ids is not None and answer["custom_id"] not in ids:
                    other = repr(answer["custom_id"])
                    raise BatchError(f"{path} has an answer to {other}, which is no request; name another file")
                if is_final((answer.get("response") or {}).get("status_code", 0)) and answer["custom_id"] not in kept:
                    kept.add(answer["custom_id"])
                    copy.write(line)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return kept


def is_final(status: int) -> bool:
    """Return whether a request with this status would get the same answer again. 0: the server did not answer."""
    return status != 0 and status not in (401, 403, 408, 429) and status < 500


def _answers(path: Path, lines: BinaryIO) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the complete lines. A last line without an end is from a run that was killed."""
    for line in lines:
        if not line.endswith(b"\n"):
            return
        try:
            answer = orjson.loads(line)
            answer["custom_id"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            raise BatchError(f"{path} exists and holds no answers; name another file") from None
        yield line, answer
