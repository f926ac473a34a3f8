"""`POST /v1/chat/completions`: one request from its body to its last byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from sanic import HTTPResponse, Request
from sanic.exceptions import RequestCancelled

from infrs.core import Delta
from infrs.errors import InfrsError, ModelNotFoundError
from infrs.openai import convert, responses, sse
from infrs.openai.errors import body_of, status_of
from infrs.openai.json import parse_object
from infrs.openai.requests import ChatCompletionRequest, parse_chat_request
from infrs.server import access
from infrs.server.bridge import DeltaStream
from infrs.server.failures import CLIENT_GONE, JSON, log_failure
from infrs.server.meter import Meter
from infrs.server.state import ServedModel, state_of


async def chat_completions(request: Request) -> HTTPResponse | None:
    """Answer a chat completion, streamed or whole."""
    # A body of 64 KiB or more leaves Sanic's reading paused, and a client that then leaves unseen.
    request.transport.resume_reading()  # type: ignore[attr-defined]  # a TCP transport
    state = state_of(request)
    model, bridge = state.require()
    body = parse_chat_request(parse_object(request.body))
    check_model(model, body.model)
    completion_id = convert.new_completion_id()
    with state.admitted():
        messages = convert.to_messages(body)
        prompt_ids = await state.in_thread(lambda: model.encode(messages))
        asked = convert.to_request(
            body,
            request_id=completion_id,
            prompt_ids=prompt_ids,
            max_model_len=model.engine.snapshot().max_model_len,
            format_stop=model.stop,
        )
        stream = bridge.submit(asked, state.settings.server.request_timeout)
        meter = Meter(state.metrics, request.ctx.received)
        try:
            if body.stream:
                await _Streamed(request, body, model, completion_id).send(stream, meter)
                return None
            return await _whole(model, completion_id, stream, meter)
        finally:
            stream.close()
            meter.close()


def check_model(model: ServedModel, model_id: str) -> None:
    """Raise ModelNotFoundError unless `model_id` is the one that is served."""
    if model_id != model.model_id:
        shown = ascii(model_id[:100])
        raise ModelNotFoundError(f"{shown} is not served here; this server serves {model.model_id}", param="model")


async def _whole(model: ServedModel, completion_id: str, stream: DeltaStream, meter: Meter) -> HTTPResponse:
    created = int(time.time())
    deltas: list[Delta] = []
    async for batch in stream:
        meter.count(batch)
        deltas += batch
    reason = deltas[-1].finish_reason
    assert reason is not None, "a stream ends with a finish reason or raises"  # noqa: S101
    body = responses.chat_completion(
        completion_id=completion_id,
        created=created,
        model=model.model_id,
        text="".join(delta.text for delta in deltas),
        finish_reason=convert.to_finish_reason(reason),
        usage=convert.to_usage(deltas[-1].usage),
    )
    return HTTPResponse(body, content_type=JSON)


class _Streamed:
    """One streamed answer. Its headers go out with the first token, so that what fails before has its status."""

    def __init__(self, request: Request, body: ChatCompletionRequest, model: ServedModel, completion_id: str) -> None:
        self._request = request
        self._response: HTTPResponse | None = None
        self._include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        self._encoder = sse.ChunkEncoder(
            completion_id, int(time.time()), model.model_id, include_usage=self._include_usage
        )
        self._timeout = state_of(request).settings.server.send_timeout

    async def send(self, stream: DeltaStream, meter: Meter) -> None:
        """Send the deltas as they come, those that are ready together in one write."""
        status = CLIENT_GONE
        try:
            async for deltas in stream:
                meter.count(deltas)
                await self._send(b"".join(self._frames(deltas)), end=deltas[-1].finish_reason is not None)
            status = 200
        except Exception as error:
            if self._response is None:
                raise
            failure = error if isinstance(error, InfrsError) else InfrsError("the server failed; see its log")
            status = status_of(failure)
            if status == 500:
                log_failure(error)
            await self._send(sse.error_event(body_of(failure)), end=True)
        finally:
            if self._response is not None:
                access.finished(self._request, status)

    def _frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        if self._response is None:
            yield self._encoder.role()
        for delta in deltas:
            if delta.text:
                yield self._encoder.content(delta.text)
            if delta.finish_reason is not None:
                yield self._encoder.finish(convert.to_finish_reason(delta.finish_reason))
                if self._include_usage:
                    yield self._encoder.usage(convert.to_usage(delta.usage))
                yield sse.DONE

    async def _send(self, data: bytes, *, end: bool) -> None:
        """Write, or give the reader up if it takes nothing for `server.send_timeout` seconds."""
        if self._response is None:
            self._response = await self._request.respond(
                content_type=sse.CONTENT_TYPE, headers={"cache-control": "no-cache", "x-accel-buffering": "no"}
            )
        if not data:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._response.send(data, end)
        except TimeoutError:
            self._request.transport.abort()  # type: ignore[attr-defined]  # a TCP transport
            raise RequestCancelled from None
