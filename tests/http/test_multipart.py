"""The reader of forms: any form in any pieces, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.errors import RequestError
from infrs.http.routes.batches.multipart import Form

TYPE = "multipart/form-data; boundary=-xX"
HEAD = b'Content-Disposition: form-data; name="%s"\r\n\r\n'


def part(name: bytes, content: bytes) -> bytes:
    return b"\r\n---xX\r\n" + HEAD % name + content


def read(body: bytes, cuts: list[int]) -> tuple[Form, bytes]:
    form, found, start = Form(TYPE), b"", 0
    for end in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
        found += form.feed(body[start:end])
        start = end
    form.end()
    return form, found


CONTENT = st.lists(st.sampled_from([b"\r\n", b"--", b"-xX", b"\r", b"a", b"\x00\xff", b"\r\n---x", b"\n"])).map(
    b"".join
)


@given(CONTENT, st.text("ab", max_size=9), st.lists(st.integers(0, 500)), st.binary(max_size=9), st.booleans())
def test_any_content_in_any_pieces_arrives(
    content: bytes, value: str, cuts: list[int], rest: bytes, file_first: bool
) -> None:
    if b"\r\n---xX" in content + b"\r\n":
        return
    parts = [part(b"purpose", value.encode()), part(b'file"; filename="n', content)]
    body = b"preamble" + b"".join(parts[::-1] if file_first else parts) + b"\r\n---xX--" + rest
    form, found = read(body, cuts)
    assert (found, form.fields, form.filename) == (content, {"purpose": value}, "n")


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_no_bytes_break_the_reader(body: bytes, cuts: list[int]) -> None:
    with pytest.raises(RequestError):
        read(body, cuts)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "ends before"),
        (part(b"file", b"x"), "ends before"),
        (part(b"file", b"x") + b"\r\n---xXyy", "other characters"),
        (part(b"purpose", b"batch") + b"\r\n---xX--", "file: required"),
        (part(b"file", b"") * 2 + b"\r\n---xX--", "sent twice"),
        (part(b"a", b"") * 2 + b"\r\n---xX--", "sent twice"),
        (part(b"a", b"x" * 5000), "longer than 4096"),
        (b"\r\n---xX\r\nA: " + b"x" * 9000, "over 8192 bytes"),
        (b"\r\n---xX\r\n\r\nx\r\n---xX--", "no name"),
        (b"".join(part(b"%d" % number, b"") for number in range(20)) + b"\r\n---xX--", "more than 16 fields"),
    ],
)
def test_a_wrong_form_is_refused_with_its_reason(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read(body, [])


@pytest.mark.parametrize("header", ["multipart/form-data", "multipart/form-data; boundary=", f"a; boundary={'x' * 99}"])
def test_a_form_needs_a_boundary(header: str) -> None:
    with pytest.raises(RequestError, match="boundary"):
        Form(header)


def test_memory_is_bounded_whatever_arrives() -> None:
    form = Form(TYPE)
    form.feed(part(b"file", b""))
    for _ in range(100):
        form.feed(b"\r\n---x" * 10_000)
        assert len(form._buffer) < 100
