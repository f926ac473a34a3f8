"""A model in a program without an event loop, or in a notebook."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from infrs.llm.async_llm import DEFAULT_TIMEOUT, AsyncLLM, Messages, Params, Prompt
from infrs.llm.outputs import Chunk, Classification, RequestOutput
from infrs.models.encoders.encoder import Vector

T = TypeVar("T")

_STOP_SECONDS = 10.0


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="infrs-llm", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and return its result. An exception here, such as Ctrl-C, cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, llm: AsyncLLM) -> None:
        """Free the model, and end the thread. Idempotent."""
        if self._thread.is_alive():
            try:
                self.run(llm.close())
            except RuntimeError:  # the interpreter ends, and asyncio starts no thread any more
                llm.stop_engine(_STOP_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)
            self._loop.close()


class LLM:
    """A chat model, an embedding model or a classifier. Close it, or use it as a context manager, to free its memory.

    The methods may be called from any thread, also while an event loop runs, as in a notebook.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str = "auto",
        revision: str = "main",
        cache_dir: str | Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        **settings: Any,  # noqa: ANN401  # as AsyncLLM
    ) -> None:
        """Load a model. Arguments and errors: see `AsyncLLM` and `AsyncLLM.open`."""
        self._llm = AsyncLLM(model, dtype=dtype, revision=revision, cache_dir=cache_dir, timeout=timeout, **settings)
        self._loop = _Loop()
        self._finalizer = weakref.finalize(self, self._loop.close, self._llm)
        try:
            self._loop.run(self._llm.open())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the requests in flight, and free the model. Idempotent."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: Params = None,
        **fields: Any,  # noqa: ANN401  # as AsyncLLM.generate
    ) -> list[RequestOutput]:
        """Continue texts or lists of token ids. Arguments and errors: see `AsyncLLM.generate`."""
        return self._run(self._llm.generate(prompts, sampling_params, **fields))

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: Params = None,
        **fields: Any,  # noqa: ANN401  # as AsyncLLM.chat
    ) -> list[RequestOutput]:
        """Answer a conversation, or several. Arguments and errors: see `AsyncLLM.chat`."""
        return self._run(self._llm.chat(messages, sampling_params, **fields))

    def embed(
        self,
        texts: Prompt | Sequence[Prompt],
        *,
        dimensions: int | None = None,
        **fields: Any,  # noqa: ANN401  # the fields of POST /v1/embeddings
    ) -> list[Vector]:
        """Return the vectors of texts: float32, one per text. Arguments and errors: see `AsyncLLM.embed`."""
        return self._run(self._llm.embed(texts, dimensions=dimensions, **fields))

    def score(
        self,
        text_1: str | Sequence[str],
        text_2: str | Sequence[str],
        **fields: Any,  # noqa: ANN401  # the fields of POST /v1/score
    ) -> list[float]:
        """Return the score of each pair of texts from a cross-encoder. Arguments and errors: see `AsyncLLM.score`."""
        return self._run(self._llm.score(text_1, text_2, **fields))

    def classify(
        self,
        texts: str | Sequence[str],
        **fields: Any,  # noqa: ANN401  # the fields of POST /classify
    ) -> list[Classification]:
        """Return the class of each text. Arguments and errors: see `AsyncLLM.classify`."""
        return self._run(self._llm.classify(texts, **fields))

    def stream(
        self,
        prompt: Prompt,
        sampling_params: Params = None,
        **fields: Any,  # noqa: ANN401  # as AsyncLLM.generate
    ) -> Iterator[Chunk]:
        """Continue a text, and yield the answer as it grows. Arguments and errors: see `AsyncLLM.generate`."""
        return self._iterate(self._llm.stream(prompt, sampling_params, **fields))

    def stream_chat(
        self,
        messages: Messages,
        sampling_params: Params = None,
        **fields: Any,  # noqa: ANN401  # as AsyncLLM.chat
    ) -> Iterator[Chunk]:
        """Answer a conversation, and yield the answer as it grows. Arguments and errors: see `AsyncLLM.chat`."""
        return self._iterate(self._llm.stream_chat(messages, sampling_params, **fields))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._finalizer.alive:
            work.close()
            raise ValueError("the LLM is closed; make another one")
        return self._loop.run(work)

    def _iterate(self, chunks: Any) -> Iterator[Chunk]:  # noqa: ANN401  # an AsyncGenerator
        try:
            while (chunk := self._run(anext(chunks, None))) is not None:
                yield chunk
        finally:
            if self._finalizer.alive:
                self._loop.run(chunks.aclose())
