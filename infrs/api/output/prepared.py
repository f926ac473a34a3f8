"""A request that is ready for the engine, and the presenter that formats its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from infrs.core import Delta, Request
from infrs.errors import InfrsError


@dataclass(frozen=True, slots=True)
class StreamForm:
    """The form of a stream before its presenter exists. The fields are those of Presenter."""

    content_type: str
    ping: bytes
    failed: Callable[[InfrsError], bytes]


class Presenter(Protocol):
    """Formats the answers of one request. It takes all deltas in order, either as a stream or as a whole."""

    @property
    def finished(self) -> bool:
        """Whether the last frame has been made."""

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        """Yield the events of a stream that the deltas make, the end of the stream included."""

    @property
    def content_type(self) -> str:
        """The media type of a stream."""

    @property
    def ping(self) -> bytes:
        """A comment or an event without content, which keeps a connection open."""

    def failed(self, error: InfrsError) -> bytes:
        """Return the event that ends a stream after its answer failed. Its headers are already sent."""

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """Return the body of an answer that is not streamed, from all its deltas."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of `prepare` of each API.

    stream: whether the client asks for a stream. ignored: names of the parts of the request that change nothing.
    observe: called with the deltas of an answer that is not streamed, as they arrive.
    """

    requests: tuple[Request, ...]
    presenter: Presenter
    stream: bool
    ignored: Sequence[str] = ()
    observe: Callable[[Sequence[Delta]], None] = lambda deltas: None
