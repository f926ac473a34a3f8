"""The parser of one answer: its deltas as reasoning, content and tool calls, for the presenter of any API."""

from __future__ import annotations

from typing import Any

from infrs.api.common.conversation import ChatTask
from infrs.api.output.continuation import Continuation
from infrs.api.output.logprobs import TokenStream, chat_logprobs
from infrs.core import Delta, FinishReason
from infrs.models.loaded import LoadedModel
from infrs.text.answer_reader import AnswerReader
from infrs.text.reasoning.splitter import ReasoningSplitter
from infrs.text.tools.events import Event
from infrs.text.tools.tool_format import WrappingFormat


class ChoiceParser:
    """Parses the deltas of one choice in order.

    num_reasoning_tokens: tokens up to the delta that closes the reasoning block, its tags included.
    """

    def __init__(self, task: ChatTask, model: LoadedModel, previous: int | None, *, in_reasoning: bool) -> None:
        """`previous`: the last token of the message that the answer continues, if it continues one.

        in_reasoning: whether the prompt opens a reasoning block.
        """
        has_logprobs = task.options.num_logprobs is not None
        self.finish_reason: FinishReason | None = None
        self.num_reasoning_tokens = 0
        self._continuation = Continuation(model.token_bytes, previous)
        self._tokens = TokenStream(model.token_bytes, previous=previous) if has_logprobs else None
        self._splitter = ReasoningSplitter(model.reasoning, inside=in_reasoning) if model.reasoning else None
        schemas = {tool.name: tool.parameters for tool in task.conversation.tools}
        needs_parser = schemas or isinstance(model.tool_format, WrappingFormat)
        calls = model.tool_format.parser(schemas, task.max_calls, schemas) if needs_parser else None
        if calls is not None and task.constraint is not None:
            calls.expect_form()
        if calls is not None and task.must_call:
            calls.expect_call()
        self._text = AnswerReader(self._splitter, calls)

    @property
    def in_reasoning(self) -> bool:
        """Whether the text so far ends inside a reasoning block."""
        return self._splitter is not None and self._splitter.has_begun and not self._splitter.is_over

    def feed(self, delta: Delta) -> tuple[list[Event], list[dict[str, Any]] | None]:
        """Return the events that a delta adds, and its log-probabilities; None if the client does not ask for them."""
        over = self._splitter is None or self._splitter.is_over
        events = self._text.feed(self._continuation.feed(delta))
        if delta.finish_reason is not None:
            by_itself = delta.finish_reason is FinishReason.STOP and delta.stop_string is None
            events += self._text.flush(cut=not by_itself)
            self.finish_reason = delta.finish_reason
        if not over and self._splitter is not None and self._splitter.has_begun:
            self.num_reasoning_tokens = delta.usage.num_output_tokens
        return events, None if self._tokens is None else chat_logprobs(delta.logprobs, self._tokens)
