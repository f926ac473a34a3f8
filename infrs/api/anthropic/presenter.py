"""The answer of a message of Anthropic's, as events and as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from infrs.api.anthropic import message as anthropic_message
from infrs.api.anthropic.errors import anthropic_status, error_body
from infrs.api.anthropic.message import MessageBlocks, frame
from infrs.api.chat.choice import ChoiceReader
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.errors import message_of, status_of
from infrs.core import Delta, FinishReason, Usage
from infrs.errors import InfrsError
from infrs.models.loaded import LoadedModel


class MessagesPresenter:
    """Presenter of `POST /v1/messages`. Both ways read the deltas with the same reader into the same blocks."""

    ping = anthropic_message.PING

    def __init__(
        self,
        body: ChatCompletionRequest,
        model: LoadedModel,
        answer_id: str,
        readers: Sequence[ChoiceReader],
    ) -> None:
        self._body = body
        self._model_id = model.model_id
        self._answer_id = answer_id
        [self._reader] = readers
        self._blocks = MessageBlocks()
        self._begun = False

    @property
    def finished(self) -> bool:
        """See Presenter."""
        return self._reader.finish_reason is not None

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        """See Presenter."""
        for delta in deltas:
            if not self._begun:
                self._begun = True
                begun = anthropic_message.message(self._answer_id, self._model_id, [], self._usage(delta.usage))
                yield frame("message_start", {"message": begun})
            yield from self._read(delta)
            if self.finished:
                reason, sequence = self._stopped(delta)
                stopped = {"stop_reason": reason, "stop_sequence": sequence}
                yield frame("message_delta", {"delta": stopped, "usage": self._usage(delta.usage)})
                yield frame("message_stop", {})

    def failed(self, error: InfrsError) -> bytes:
        """See Presenter."""
        status = anthropic_status(status_of(error))
        body = error_body(message_of(error), status=status, code=error.code, param=error.param)
        return b"event: error\ndata: " + body + b"\n\n"

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See Presenter."""
        for delta in deltas:
            for _ in self._read(delta):
                pass
        reason, sequence = self._stopped(deltas[-1])
        content, usage = self._blocks.whole(), self._usage(deltas[-1].usage)
        return orjson.dumps(
            anthropic_message.message(
                self._answer_id, self._model_id, content, usage, stop_reason=reason, stop_sequence=sequence
            )
        )

    def _read(self, delta: Delta) -> Iterator[bytes]:
        events, _ = self._reader.read(delta)
        for event in events:
            yield from self._blocks.add(event)
        if self.finished:
            yield from self._blocks.close()

    def _stopped(self, last: Delta) -> tuple[str, str | None]:
        """Anthropic's `stop_reason`, and the stop sequence where that was the reason."""
        if last.finish_reason is FinishReason.LENGTH:
            asked = self._body.max_tokens
            is_cut = asked is not None and last.usage.num_output_tokens < asked
            return "model_context_window_exceeded" if is_cut else "max_tokens", None
        if last.stop_string in (self._body.stop or ()):
            return "stop_sequence", last.stop_string
        return "tool_use" if self._blocks.has_calls else "end_turn", None

    def _usage(self, usage: Usage) -> dict[str, object]:
        """Token counts as Anthropic names them: `input_tokens` are those of the prompt that had to be computed."""
        return {
            "input_tokens": usage.num_prompt_tokens - usage.num_reused_tokens,
            "output_tokens": usage.num_output_tokens,
            "output_tokens_details": {"thinking_tokens": self._reader.num_reasoning_tokens},
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.num_reused_tokens,
            "service_tier": "standard",
        }
