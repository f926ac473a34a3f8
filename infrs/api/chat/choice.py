"""One answer of a conversation as it is read: what its deltas mean, whatever route it is for."""

from __future__ import annotations

from typing import Any

from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.output.continuation import Continuation
from infrs.api.output.logprobs import TokenReader, chat_logprobs
from infrs.core import Delta, FinishReason
from infrs.models.loaded import LoadedModel
from infrs.text.answer_reader import AnswerReader
from infrs.text.reasoning import ReasoningSplitter
from infrs.text.tools.events import Event


class ChoiceReader:
    """Reads the deltas of one choice in order."""

    def __init__(
        self,
        body: ChatCompletionRequest,
        model: LoadedModel,
        previous: int | None,
        *,
        in_reasoning: bool,
    ) -> None:
        """`previous`: the token at the end of the message that the answer continues.

        in_reasoning: whether the prompt has opened a reasoning block.
        """
        tools = frozenset(tool.name for tool in body.callable_tools)
        self.finish_reason: FinishReason | None = None
        self.num_reasoning_tokens = 0  # up to the delta that closes the block, its tags included
        self._continuation = Continuation(model.token_bytes, previous)
        self._tokens = TokenReader(model.token_bytes, previous=previous) if body.logprobs else None
        self._splitter = ReasoningSplitter(inside=in_reasoning) if model.thinks else None
        parser = model.tool_format.parser(tools, body.max_calls) if tools else None
        if parser is not None and body.form is not None:
            parser.expect_form()
        self._text = AnswerReader(self._splitter, parser)

    @property
    def in_reasoning(self) -> bool:
        """Whether the text read so far ends inside a reasoning block."""
        return self._splitter is not None and self._splitter.has_begun and not self._splitter.is_over

    def read(self, delta: Delta) -> tuple[list[Event], list[dict[str, Any]] | None]:
        """What a delta adds: events of the text, and the entries of log-probabilities, None if not asked for."""
        over = self._splitter is None or self._splitter.is_over
        events = self._text.feed(self._continuation.read(delta))
        if delta.finish_reason is not None:
            by_itself = delta.finish_reason is FinishReason.STOP and delta.stop_string is None
            events += self._text.flush(cut=not by_itself)
            self.finish_reason = delta.finish_reason
        if not over and self._splitter is not None and self._splitter.has_begun:
            self.num_reasoning_tokens = delta.usage.num_output_tokens
        return events, None if self._tokens is None else chat_logprobs(delta.logprobs, self._tokens)
