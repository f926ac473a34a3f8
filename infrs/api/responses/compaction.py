"""`/v1/responses/compact`: the model summarises a conversation, and a `compaction` item has the summary.

The output is the latest messages of the user and of the system, word for word, and the item. The item is opaque: text
in an encoding of infrs's own with a checksum. So an item of another server, or one cut on its way, is refused by name.
It is not encrypted: the conversation belongs to the client.
Source of the shapes: https://developers.openai.com/api/reference/resources/responses/methods/compact
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from infrs.api.chat.choice_parser import ChoiceParser
from infrs.api.chat.prepare import prepare_task
from infrs.api.common.conversation import Turn
from infrs.api.common.ignored import ignored
from infrs.api.output.prepared import Prepared
from infrs.api.output.tally import Tally
from infrs.api.output.usage import to_response_usage
from infrs.api.responses.convert import to_task
from infrs.api.responses.history import StoredConversation
from infrs.api.responses.items import CompactionItem, Item, MessageItem, encode_summary, new_item_id
from infrs.api.responses.presenter import Facts, NotStreamed
from infrs.core import Delta, FinishReason, RequestContext
from infrs.errors import RequestError, prompt_too_long
from infrs.models.loaded import LoadedModel
from infrs.text.tools.events import Content

_KEPT_PART = 4  # of the context: for messages that are kept, and again for the summary
_LEAST_SUMMARY = 32  # tokens
_ASK = (
    "Summarise this conversation to continue it without its text. Keep the task, decisions, facts, "
    "names, numbers, code, results of tools, and what is still to do. Write only the summary."
)
_CUT = "\n[The summary was cut here, at its maximum length.]"
# Fields that change an answer, but no summary.
_OF_ANSWERS = ("tools", "tool_choice", "parallel_tool_calls", "max_tool_calls", "text", "include", "top_logprobs")


def prepare_compaction(model: LoadedModel, asked: StoredConversation, context: RequestContext) -> Prepared:
    """Prepare the summary of a conversation.

    Raises RequestError, and ContextLengthError for a conversation that leaves no room for a summary.
    """
    history, answer_id = asked.read(), new_item_id("resp")
    items = [*history.earlier, *history.given]
    plain = asked.body.model_copy(update=dict.fromkeys(_OF_ANSWERS))
    task = to_task(plain, history.given, history.earlier)
    limit = model.limits.max_model_len
    most = min(asked.body.max_output_tokens or limit, max(_LEAST_SUMMARY, limit // _KEPT_PART))
    conversation = replace(task.conversation, turns=(*task.conversation.turns, Turn("user", _ASK)))
    task = replace(task, conversation=conversation, options=replace(task.options, max_tokens=most, stream=False))
    request, [parser] = prepare_task(model, task, answer_id, context)
    if limit - len(request.prompt_ids) < min(most, _LEAST_SUMMARY):
        raise prompt_too_long(len(request.prompt_ids), limit, "input")
    kept = [item.stored() for item in kept_messages(model, items)]
    facts = Facts(asked.body, answer_id, request.sampling, None, is_stored=False)
    return Prepared((request,), CompactionPresenter(facts, parser, kept), stream=False, ignored=ignored(asked.body))


def kept_messages(model: LoadedModel, items: Sequence[Item]) -> list[MessageItem]:
    """Return the latest messages of the user and the system that together fit a quarter of the context."""
    room, kept = model.limits.max_model_len // _KEPT_PART, list[MessageItem]()
    for item in reversed(items):
        if isinstance(item, MessageItem) and item.role != "assistant":
            text = "".join(part.text for part in item.content)
            room -= len(model.tokenizer.encode(text, special=False))
            if room < 0:
                break
            kept.append(item)
    return kept[::-1]


class CompactionPresenter(NotStreamed):
    """Presenter of `POST /v1/responses/compact`."""

    def __init__(self, facts: Facts, parser: ChoiceParser, kept: list[dict[str, Any]]) -> None:
        super().__init__(facts)
        self._parser = parser
        self._kept = kept

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See Presenter. Raises RequestError if the model wrote no summary."""
        tally, texts = Tally(), list[str]()
        for delta in deltas:
            tally.count(delta)
            texts += [event.text for event in self._parser.feed(delta)[0] if isinstance(event, Content)]
        summary = "".join(texts).strip()
        if not summary:
            raise RequestError(
                "the model wrote no summary; send a larger max_output_tokens, or a shorter conversation",
                code="compaction_failed",
            )
        if self._parser.finish_reason is FinishReason.LENGTH:
            summary += _CUT
        item = CompactionItem(type="compaction", encrypted_content=encode_summary(summary))
        created = int(time.time())
        return orjson.dumps(
            {
                "id": self._facts.response_id,
                "object": "response.compaction",
                "created_at": created,
                "output": [*self._kept, item.stored()],
                "usage": to_response_usage(tally.usage, self._parser.num_reasoning_tokens),
            }
        )
