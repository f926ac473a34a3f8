"""A model in a program with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson

from infrs.api.chat.prepare import prepare as prepare_chat
from infrs.api.chat.request import parse_chat_request
from infrs.api.common.fields import parse_body
from infrs.api.completions.prepare import prepare as prepare_completion
from infrs.api.completions.request import parse_completion_request
from infrs.api.embeddings.embed import check_dimensions, encode_texts, shortened
from infrs.api.embeddings.request import parse_embedding_request
from infrs.api.output.prepared import Prepared
from infrs.api.rerank.rank import classify_response, classify_texts, score_pairs, score_response
from infrs.api.rerank.request import ClassifierFields, ClassifyRequest, ScoreRequest
from infrs.core import Delta, RequestContext
from infrs.errors import DrainingError, ModelUnloadedError
from infrs.llm.model_settings import resolve, to_settings
from infrs.llm.outputs import Chunk, Classification, RequestOutput, to_chunk, to_output
from infrs.llm.params import SamplingParams
from infrs.machine.memory import return_free_memory
from infrs.models.encoders.classifier import ClassifierModel, EncodedText
from infrs.models.encoders.encoder import Vector
from infrs.models.encoders.served import ServedClassifier, ServedEmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.models.registry import ModelRegistry
from infrs.models.served import ServedChatModel, ServedModel

Prompt = str | Sequence[int]
Messages = Sequence[Mapping[str, Any]]
Params = SamplingParams | None

DEFAULT_TIMEOUT = 86400.0  # seconds
Prepare = Callable[[LoadedModel, dict[str, Any], RequestContext], Prepared]
T = TypeVar("T")
B = TypeVar("B", bound=ClassifierFields)


def _chat(model: LoadedModel, payload: dict[str, Any], context: RequestContext) -> Prepared:
    return prepare_chat(model, parse_chat_request(payload), context)


def _completion(model: LoadedModel, payload: dict[str, Any], context: RequestContext) -> Prepared:
    return prepare_completion(model, parse_completion_request(payload), context)


class AsyncLLM:
    """A chat model, an embedding model or a classifier: `async with AsyncLLM(model) as llm`.

    Its methods belong to one event loop.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str = "auto",
        revision: str = "main",
        cache_dir: str | Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        **settings: Any,  # noqa: ANN401  # the keys of the sections `model` and `engine`
    ) -> None:
        """`model`: Hub id, or path of a model folder, a .gguf file or a bundle. timeout: most seconds of a request.

        settings: keys of `model` and `engine`, such as `threads` or `max_num_seqs`. Raises ConfigError.
        """
        self._settings, self._engine = to_settings(model, dtype, revision, cache_dir, settings)
        self._timeout = timeout
        self._registry = ModelRegistry()
        self._places = asyncio.Semaphore(0)
        self._served: ServedModel | None = None

    async def open(self) -> None:
        """Load the model. Without a cached bundle it is exported first, if the exporter is installed.

        Raises BundleNotFoundError, ExportError, BundleError, ConfigError.
        """
        if self._served is None:
            model_id, open_model = await asyncio.to_thread(resolve, self._settings)
            self._served = await self._registry.load(model_id, open_model, self._engine)
            self._places = asyncio.Semaphore(self._served.num_places)

    async def close(self) -> None:
        """End the requests in flight, free the model, and give its memory back to the system."""
        await self._registry.close(ModelUnloadedError("the model was closed before the answer was complete"))
        self._served = None
        await asyncio.to_thread(return_free_memory)

    def stop_engine(self, seconds: float) -> None:
        """Stop the thread of the model, and wait at most `seconds` for it. For the end of the interpreter."""
        if self._served is not None:
            self._served.service.stop(seconds)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: Params = None,
        **fields: Any,  # noqa: ANN401  # the fields of POST /v1/completions
    ) -> list[RequestOutput]:
        """Continue texts or lists of token ids. fields: more fields of `POST /v1/completions`.

        Raises RequestError for an invalid field; then no prompt is answered.
        """
        payload = _payload(sampling_params, fields)
        alone = isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], int))
        each = [prompts] if alone else prompts
        return await _all(self._answer(_completion, {**payload, "prompt": _plain(prompt)}) for prompt in each)

    async def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: Params = None,
        **fields: Any,  # noqa: ANN401  # the fields of POST /v1/chat/completions
    ) -> list[RequestOutput]:
        """Answer a conversation, or several. fields: more fields of `POST /v1/chat/completions`, such as `tools`.

        Raises as `generate`.
        """
        payload = _chat_payload(sampling_params, fields)
        alone = len(messages) > 0 and isinstance(messages[0], Mapping)
        each: Any = [messages] if alone else messages
        return await _all(self._answer(_chat, {**payload, "messages": list(map(dict, one))}) for one in each)

    async def embed(
        self,
        texts: Prompt | Sequence[Prompt],
        *,
        dimensions: int | None = None,
        **fields: Any,  # noqa: ANN401  # the fields of POST /v1/embeddings
    ) -> list[Vector]:
        """Return the vectors of texts: float32, one per text.

        fields: more fields of `POST /v1/embeddings`, such as `prompt_name`. Raises RequestError.
        """
        served = self._registry.find_encoder(ServedEmbeddingModel, self._model_id)
        payload = {**fields, "model": served.model_id, "input": _plain(texts), "dimensions": dimensions}
        body = parse_embedding_request(payload)
        check_dimensions(served.model, body)
        context = self._context()
        async with self._place(served, context):
            ids = await asyncio.to_thread(encode_texts, served.model, body)
            return shortened(served.model, body, await served.compute(ids, context))

    async def score(
        self,
        text_1: str | Sequence[str],
        text_2: str | Sequence[str],
        **fields: Any,  # noqa: ANN401  # the fields of POST /v1/score
    ) -> list[float]:
        """Return the score of each pair of texts from a cross-encoder. A single `text_1` is paired with each `text_2`.

        fields: more fields of `POST /v1/score`, such as `truncate_prompt_tokens`. Raises RequestError.
        """
        payload = {**fields, "text_1": _plain(text_1), "text_2": _plain(text_2)}
        found = await self._scored(ScoreRequest, payload, score_pairs, score_response)
        return [each["score"] for each in found]

    async def classify(
        self,
        texts: str | Sequence[str],
        **fields: Any,  # noqa: ANN401  # the fields of POST /classify
    ) -> list[Classification]:
        """Return the class of each text. fields: more fields of `POST /classify`. Raises RequestError."""
        payload = {**fields, "input": _plain(texts)}
        found = await self._scored(ClassifyRequest, payload, classify_texts, classify_response)
        return [Classification(each["label"], tuple(each["probs"])) for each in found]

    async def _scored(
        self,
        kind: type[B],
        payload: dict[str, Any],
        encode: Callable[[ClassifierModel, B], list[EncodedText]],
        respond: Callable[[ClassifierModel, B, Sequence[Vector], int, str], bytes],
    ) -> list[dict[str, Any]]:
        """Return the `data` of the response that a server sends. encode, respond: those of the route."""
        served = self._registry.find_encoder(ServedClassifier, self._model_id)
        body, context = parse_body(kind, {**payload, "model": served.model_id}), self._context()
        async with self._place(served, context):
            texts = await asyncio.to_thread(encode, served.model, body)
            logits = await served.compute(texts, context)
        content = respond(served.model, body, logits, sum(len(text.ids) for text in texts), context.request_id)
        data: list[dict[str, Any]] = orjson.loads(content)["data"]
        return data

    def stream(
        self,
        prompt: Prompt,
        sampling_params: Params = None,
        **fields: Any,  # noqa: ANN401  # as generate
    ) -> AsyncGenerator[Chunk]:
        """Continue a text, and yield the answer as it grows. Arguments and errors: see `generate`."""
        return self._stream(_completion, {**_payload(sampling_params, fields), "prompt": _plain(prompt)})

    def stream_chat(
        self,
        messages: Messages,
        sampling_params: Params = None,
        **fields: Any,  # noqa: ANN401  # as chat
    ) -> AsyncGenerator[Chunk]:
        """Answer a conversation, and yield the answer as it grows. Arguments and errors: see `chat`."""
        return self._stream(_chat, {**_chat_payload(sampling_params, fields), "messages": list(map(dict, messages))})

    @property
    def _model_id(self) -> str:
        """Return the id of the model. Raises DrainingError if it is not open."""
        if self._served is None:
            raise DrainingError("the model is not open; use `async with`, or call open()")
        return self._served.model_id

    def _context(self) -> RequestContext:
        return RequestContext.start(secrets.token_hex(8), "", self._timeout)

    @contextlib.asynccontextmanager
    async def _place(self, served: ServedModel, context: RequestContext) -> AsyncIterator[None]:
        """Wait for a place in the model's queue, and hold it."""
        async with self._places:
            with served.admitted(context.tenant):
                yield

    async def _prepared(
        self, prepare: Prepare, served: ServedChatModel, payload: dict[str, Any], context: RequestContext
    ) -> Prepared:
        payload = {"model": served.model_id, **payload}
        return await asyncio.to_thread(prepare, served.model, payload, context)

    async def _answer(self, prepare: Prepare, payload: dict[str, Any]) -> RequestOutput:
        served, context = self._registry.find_chat(self._model_id), self._context()
        async with self._place(served, context):
            prepared = await self._prepared(prepare, served, payload, context)
            found: list[Delta] = []
            deltas = served.submit(prepared.requests, context, self._timeout)
            try:
                async for batch in deltas:
                    found += batch
            finally:
                deltas.close()
            return to_output(prepared.requests[0].prompt_ids, found, prepared.presenter.whole(found))

    async def _stream(self, prepare: Prepare, payload: dict[str, Any]) -> AsyncGenerator[Chunk]:
        served, context = self._registry.find_chat(self._model_id), self._context()
        async with self._place(served, context):
            prepared = await self._prepared(prepare, served, {**payload, "stream": True}, context)
            deltas = served.submit(prepared.requests, context, self._timeout)
            try:
                async for batch in deltas:
                    for frame in prepared.presenter.frames(batch):
                        if (chunk := to_chunk(frame)) is not None:
                            yield chunk
            finally:
                deltas.close()


def _payload(params: Params, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**(params.given() if params is not None else {}), **fields}


def _chat_payload(params: Params, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a chat completion, where the number of alternatives has a field of its own."""
    payload = _payload(params, fields)
    num = payload.get("logprobs")
    return payload if num is None or isinstance(num, bool) else {**payload, "logprobs": True, "top_logprobs": num}


def _plain(prompt: Any) -> Any:  # noqa: ANN401  # a prompt, or several
    return (
        prompt if isinstance(prompt, str) else [_plain(each) if not isinstance(each, int) else each for each in prompt]
    )


async def _all(answers: Iterable[Awaitable[T]]) -> list[T]:
    """Return the results of coroutines. The first that fails cancels the others."""
    tasks = [asyncio.ensure_future(answer) for answer in answers]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
