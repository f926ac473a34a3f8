"""Read a form with a file (`multipart/form-data`, RFC 7578 and RFC 2046) as it arrives, in bounded memory."""

from __future__ import annotations

import re
from enum import Enum

from sanic.headers import parse_content_header

from infrs.errors import RequestError

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_MAX_HEAD = 8192  # bytes of the headers of a part
_MAX_VALUE = 4096  # bytes of a field
_MAX_FIELDS = 16


class _State(Enum):
    PART = 1  # the content of a part, or what precedes the first
    HEAD = 2
    END = 3


class Form:
    """The parts of a form. fields: those without the file. filename: of the file, None before it begins."""

    def __init__(self, content_type: str) -> None:
        """content_type: the header. Raises RequestError."""
        boundary = parse_content_header(content_type)[1].get("boundary", "")
        if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
            raise _malformed("its content-type names no boundary")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._delimiter = f"\r\n--{boundary}".encode()
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter looks like the others
        self._state = _State.PART
        self._name: str | None = None  # of the part; None for what precedes the first
        self._value = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body, and return the bytes of the file among them. Raises RequestError."""
        self._buffer += data
        content = bytearray()
        while self._state is not _State.END:
            step = self._read_head if self._state is _State.HEAD else self._read_part
            if not step(content):
                return bytes(content)
        self._buffer.clear()  # what follows the last part has no meaning
        return bytes(content)

    def end(self) -> str:
        """Check that the form is complete, and return the name of the file. Raises RequestError."""
        if self._state is not _State.END:
            raise _malformed("it ends before its last boundary")
        if self.filename is None:
            raise RequestError("file: required; send the file in a part of this name", param="file")
        return self.filename

    def _read_part(self, content: bytearray) -> bool:
        """Read up to the next delimiter. Return whether it is complete."""
        buffer, length = self._buffer, len(self._delimiter)
        at = buffer.find(self._delimiter)
        end = at if at >= 0 else max(0, len(buffer) - length + 1)
        self._take(buffer[:end], content)
        del buffer[:end]
        if at < 0 or len(buffer) < length + 2:
            return False
        tail = bytes(buffer[length : length + 2])
        if tail not in (b"--", b"\r\n"):
            raise _malformed("a boundary is followed by other characters")
        self._close_part()
        self._state = _State.END if tail == b"--" else _State.HEAD
        del buffer[:length]
        return True

    def _take(self, data: bytearray, content: bytearray) -> None:
        if self._name == "file":
            content += data
        elif self._name is not None:
            self._value += data
            if len(self._value) > _MAX_VALUE:
                raise RequestError(
                    f"{self._name[:64]!a} is longer than {_MAX_VALUE} bytes; shorten it", param=self._name
                )

    def _close_part(self) -> None:
        if self._name not in (None, "file"):
            self.fields[str(self._name)] = self._value.decode(errors="replace")
        self._value.clear()

    def _read_head(self, _: bytearray) -> bool:
        """Read the headers of a part, from the line end behind its boundary. Return whether they are complete."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > _MAX_HEAD:
            if len(self._buffer) > _MAX_HEAD:
                raise _malformed(f"the headers of a part take over {_MAX_HEAD} bytes")
            return False
        lines = bytes(self._buffer[2:end]).decode(errors="replace").split("\r\n")
        del self._buffer[: end + 4]
        self._begin_part(lines)
        return True

    def _begin_part(self, lines: list[str]) -> None:
        headers = {name.strip().lower(): value for name, _, value in (line.partition(":") for line in lines)}
        kind, parameters = parse_content_header(headers.get("content-disposition", "").strip())
        name = parameters.get("name")
        if kind != "form-data" or not isinstance(name, str):
            raise _malformed("a part has no name")
        if name in self.fields or (name == "file" and self.filename is not None):
            raise RequestError(f"{name[:64]!a} is sent twice; send it once", param=name[:64])
        if len(self.fields) >= _MAX_FIELDS:
            raise _malformed(f"it has more than {_MAX_FIELDS} fields")
        if name == "file":
            self.filename = str(parameters.get("filename") or "file")
        self._name, self._state = name, _State.PART


def _malformed(reason: str) -> RequestError:
    return RequestError(f"the form is not valid: {reason}", code="invalid_form")
