"""The presenter of Anthropic's messages: events, or the whole body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from infrs.api.anthropic import message as anthropic_message
from infrs.api.anthropic.errors import anthropic_status, error_body, message_of
from infrs.api.anthropic.message import MessageBlocks, frame
from infrs.api.chat.choice_parser import ChoiceParser
from infrs.api.common.conversation import ChatTask
from infrs.api.common.errors import status_of
from infrs.api.output import sse
from infrs.api.output.prepared import StreamForm
from infrs.core import Delta, FinishReason, Usage
from infrs.errors import InfrsError


def failure(error: InfrsError) -> bytes:
    """Return the event that ends a stream with an error."""
    status = anthropic_status(status_of(error))
    body = error_body(message_of(error), status=status, code=error.code, param=error.param)
    return b"event: error\ndata: " + body + b"\n\n"


STREAM_FORM = StreamForm(sse.CONTENT_TYPE, anthropic_message.PING, failure)


class MessagesPresenter:
    """Presenter of `POST /v1/messages`. A stream and a whole body parse the deltas into the same blocks."""

    content_type = sse.CONTENT_TYPE
    ping = anthropic_message.PING

    def __init__(self, task: ChatTask, model_id: str, answer_id: str, parser: ChoiceParser) -> None:
        self._options = task.options
        self._model_id = model_id
        self._answer_id = answer_id
        self._parser = parser
        self._blocks = MessageBlocks()
        self._begun = False

    @property
    def finished(self) -> bool:
        """See Presenter."""
        return self._parser.finish_reason is not None

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        """See Presenter."""
        for delta in deltas:
            if not self._begun:
                self._begun = True
                begun = anthropic_message.message(self._answer_id, self._model_id, [], self._usage(delta.usage))
                yield frame("message_start", {"message": begun})
            yield from self._feed(delta)
            if self.finished:
                reason, sequence = self._stopped(delta)
                stopped = {"stop_reason": reason, "stop_sequence": sequence}
                yield frame("message_delta", {"delta": stopped, "usage": self._usage(delta.usage)})
                yield frame("message_stop", {})

    def failed(self, error: InfrsError) -> bytes:
        """See Presenter."""
        return failure(error)

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See Presenter."""
        for delta in deltas:
            for _ in self._feed(delta):
                pass
        reason, sequence = self._stopped(deltas[-1])
        content, usage = self._blocks.whole(), self._usage(deltas[-1].usage)
        return orjson.dumps(
            anthropic_message.message(
                self._answer_id, self._model_id, content, usage, stop_reason=reason, stop_sequence=sequence
            )
        )

    def _feed(self, delta: Delta) -> Iterator[bytes]:
        events, _ = self._parser.feed(delta)
        for event in events:
            yield from self._blocks.add(event)
        if self.finished:
            yield from self._blocks.close()

    def _stopped(self, last: Delta) -> tuple[str, str | None]:
        """Return Anthropic's `stop_reason`, and the stop sequence if that is the reason."""
        if last.finish_reason is FinishReason.LENGTH:
            asked = self._options.max_tokens
            is_cut = asked is not None and last.usage.num_output_tokens < asked
            return "model_context_window_exceeded" if is_cut else "max_tokens", None
        if last.stop_string in self._options.stop:
            return "stop_sequence", last.stop_string
        return "tool_use" if self._blocks.has_calls else "end_turn", None

    def _usage(self, usage: Usage) -> dict[str, object]:
        """Return token counts in Anthropic's shape: `input_tokens` are the prompt tokens that the engine computed."""
        return {
            "input_tokens": usage.num_prompt_tokens - usage.num_reused_tokens,
            "output_tokens": usage.num_output_tokens,
            "output_tokens_details": {"thinking_tokens": self._parser.num_reasoning_tokens},
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.num_reused_tokens,
            "service_tier": "standard",
        }
