"""The presenter of chat completions: chunks, or the whole body."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from infrs.api.chat.choice_parser import ChoiceParser
from infrs.api.chat.message_builder import MessageBuilder
from infrs.api.common.conversation import ChatTask
from infrs.api.common.errors import body_of
from infrs.api.output import bodies, sse
from infrs.api.output.prepared import StreamForm
from infrs.api.output.tally import Tally
from infrs.api.output.usage import to_finish_reason, to_usage
from infrs.core import Delta
from infrs.errors import InfrsError
from infrs.models.loaded import LoadedModel


def failure(error: InfrsError) -> bytes:
    """Return the event that ends a stream with an error."""
    return sse.error_event(body_of(error))


STREAM_FORM = StreamForm(sse.CONTENT_TYPE, sse.PING, failure)


class ChatPresenter:
    """Presenter of `POST /v1/chat/completions`. A stream and a whole body parse the deltas with the same `_Choice`."""

    content_type = sse.CONTENT_TYPE
    ping = sse.PING

    def __init__(
        self,
        task: ChatTask,
        model: LoadedModel,
        answer_id: str,
        parsers: Sequence[ChoiceParser],
        *,
        uses_functions: bool = False,
        service_tier: str | None = None,
    ) -> None:
        """`parsers`: one per answer. uses_functions: see MessageBuilder. service_tier: see `bodies.head`."""
        self._options = task.options
        self._service_tier = service_tier
        self._model = model
        self._answer_id = answer_id
        self._created = int(time.time())
        self._can_call = bool(task.conversation.tools)
        self._choices = [_Choice(parser, MessageBuilder(uses_functions=uses_functions)) for parser in parsers]
        self._tally = Tally()
        self._chunks = sse.ChatChunks(self._head("chat.completion.chunk"), include_usage=task.options.include_usage)

    @property
    def finished(self) -> bool:
        """See Presenter."""
        return all(choice.finish_reason is not None for choice in self._choices)

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        """See Presenter. The chunks of several choices interleave as their tokens do."""
        for delta in deltas:
            self._tally.count(delta)
            choice = self._choices[delta.index]
            is_first = not choice.begun
            changes, logprobs = choice.feed(delta)
            usage = self._usage if self._options.usage_in_every_chunk else None
            if is_first:
                yield self._chunks.role(delta.index, usage)
            for change in changes or [{"content": ""}] * bool(logprobs):
                yield self._chunks.delta(delta.index, change, logprobs, usage)
                logprobs = None if logprobs is None else []
            if choice.finish_reason is not None:
                yield self._chunks.finish(delta.index, choice.finish_reason, usage)
        if deltas and self.finished:
            if self._options.include_usage:
                yield self._chunks.usage(self._usage)
            yield sse.DONE

    def failed(self, error: InfrsError) -> bytes:
        """See Presenter."""
        return failure(error)

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See Presenter."""
        entries: list[list[Any]] = [[] for _ in self._choices]
        for delta in deltas:
            self._tally.count(delta)
            _, logprobs = self._choices[delta.index].feed(delta)
            entries[delta.index] += logprobs or ()
        choices = []
        for index, choice in enumerate(self._choices):
            assert choice.finish_reason is not None, "a stream ends with a finish reason or raises"  # noqa: S101
            logprobs = entries[index] if self._options.num_logprobs is not None else None
            message = choice.message.whole(can_call=self._can_call and choice.finish_reason == "length")
            choices.append(bodies.chat_choice(index, message, choice.finish_reason, logprobs))
        return bodies.completion(self._head("chat.completion"), choices, self._usage)

    @property
    def _usage(self) -> dict[str, object]:
        num_reasoning_tokens = sum(choice.num_reasoning_tokens for choice in self._choices)
        return to_usage(self._tally.usage, num_reasoning_tokens if self._model.thinks else None)

    def _head(self, kind: str) -> dict[str, object]:
        return bodies.head(
            kind,
            answer_id=self._answer_id,
            created=self._created,
            model=self._model.model_id,
            fingerprint=self._model.fingerprint,
            service_tier=self._service_tier,
        )


class _Choice:
    """One answer: the changes of its message."""

    def __init__(self, parser: ChoiceParser, message: MessageBuilder) -> None:
        self.begun = False
        self.finish_reason: str | None = None
        self.message = message
        self._parser = parser

    @property
    def num_reasoning_tokens(self) -> int:
        """See ChoiceParser."""
        return self._parser.num_reasoning_tokens

    def feed(self, delta: Delta) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """Return the changes of the message and the log-probabilities that a delta adds. See ChoiceParser.feed."""
        self.begun = True
        events, logprobs = self._parser.feed(delta)
        changes = [self.message.add(event) for event in events]
        if delta.finish_reason is not None:
            self.finish_reason = self.message.finish_reason(to_finish_reason(delta.finish_reason))
        return changes, logprobs
