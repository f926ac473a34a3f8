"""A fake server with a tokenizer that fails, or never returns, for certain words of the text."""

from __future__ import annotations

import threading

import tokenizers
from fake_server import MANIFEST, FakeEngine, byte_tokenizer, main, served

from infrs.models.loaded import LoadedModel
from infrs.text import tokenizer


class PanicException(BaseException):
    """The form in which a panic of Rust reaches Python."""


class Backend:
    """A tokenizer of the library that fails, or never returns, for certain texts."""

    def __init__(self, backend: object) -> None:
        self._backend = backend

    @classmethod
    def from_buffer(cls, definition: bytes) -> Backend:
        return cls(tokenizers.Tokenizer.from_buffer(definition))

    def encode_batch_fast(self, texts: list[str], **options: object) -> object:
        (text,) = texts
        if "stuck" in text:
            threading.Event().wait()
        for word, error in (("unreadable", ValueError), ("panic", PanicException), ("memory", MemoryError)):
            if word in text:
                raise error(f"/secret/path {word}")
        return self._backend.encode_batch_fast(texts, **options)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)


def faulty_model(rows: int, max_queue: int) -> LoadedModel:
    engine = FakeEngine(rows, max_queue, 512, 0.002)
    tokenizer.Backend = Backend  # type: ignore[assignment, misc]
    return served(engine, byte_tokenizer([bytes([byte]) for byte in range(256)]), MANIFEST)


if __name__ == "__main__":
    main(faulty_model)
