"""Conversion of a `/v1/responses` request to neutral form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from infrs.api.common.conversation import Call, ChatTask, Conversation, FieldNames, GenerationOptions, Turn
from infrs.api.common.fields import MAX_MESSAGES
from infrs.api.common.tools import parse_arguments
from infrs.api.responses.body_parts import ToolChoice, full_name
from infrs.api.responses.items import (
    CompactionItem,
    Contents,
    CustomCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    MessageItem,
    ReasoningItem,
)
from infrs.api.responses.request import ResponsesRequest
from infrs.errors import RequestError
from infrs.text.tools.call_grammar import Tool

_FIELD_NAMES = FieldNames(messages="input", reasoning_effort="reasoning.effort")


def to_task(body: ResponsesRequest, given: Sequence[Item] | None = None, earlier: Sequence[Item] = ()) -> ChatTask:
    """Return the conversation to answer, with its options.

    given: the body's input, with the stored items that it refers to; by default the input as it is. earlier: the items
    of the conversation so far. Raises RequestError that names the field.
    """
    tools, must_call = _callable_tools(body)
    choice = body.chosen
    is_single = choice == "none" or (isinstance(choice, ToolChoice) and choice.name is not None)
    text_format = body.text.format if body.text else None
    return ChatTask(
        Conversation(
            _turns(body, body.input if given is None else given, earlier),
            tools=tuple(tools),
            reasoning_effort=body.reasoning.effort if body.reasoning else None,
            field_names=_FIELD_NAMES,
        ),
        GenerationOptions(
            sampling=body.given("temperature", "top_p", "presence_penalty", "frequency_penalty"),
            max_tokens=body.max_output_tokens,
            num_logprobs=body.num_logprobs,
            stream=bool(body.stream),
        ),
        constraint=text_format.constraint if text_format and not must_call else None,
        must_call=must_call,
        max_calls=1 if is_single or body.parallel_tool_calls is False else None,
    )


def _callable_tools(body: ResponsesRequest) -> tuple[list[Tool], bool]:
    """Return the tools that the answer may call, and whether it must call one."""
    tools = [tool.as_tool(space) for space, tool in body.functions]
    match body.chosen:
        case ToolChoice(name=str(name)):
            return [tool for tool in tools if tool.name == name], True
        case ToolChoice(tools=list(allowed), mode=mode):
            names = {tool.name for tool in allowed}
            return [tool for tool in tools if tool.name in names], mode == "required"
        case "none":
            return [], False
        case choice:
            return tools, choice == "required"


def _turns(body: ResponsesRequest, given: Sequence[Item], earlier: Sequence[Item]) -> tuple[Turn, ...]:
    _check_results(earlier, given)
    instructions = [] if body.instructions is None else [Turn("system", body.instructions)]
    turns = (*instructions, *to_turns([*earlier, *given]))
    if len(turns) > MAX_MESSAGES:
        raise RequestError(
            f"input: the conversation has more than {MAX_MESSAGES} messages; begin a new one",
            param="input",
            code="array_above_max_length",
        )
    if not turns:
        raise RequestError("input: these items make no message; add one", param="input", code="empty_array")
    return turns


def _check_results(earlier: Sequence[Item], given: Sequence[Item]) -> None:
    """Raise RequestError for the result of a call that no item before it makes."""
    called = {item.call_id for item in earlier if isinstance(item, FunctionCall | CustomCall)}
    for index, item in enumerate(given):
        if isinstance(item, FunctionCall | CustomCall):
            called.add(item.call_id)
        elif isinstance(item, FunctionCallOutput) and item.call_id not in called:
            param = f"input[{index}].call_id"
            raise RequestError(
                f"{param}: no call before it has this id; send the function_call first, or the previous_response_id of "
                "the response that made it",
                param=param,
            )


@dataclass
class _AssistantTurn:
    """The turn of the assistant that consecutive items make: reasoning, then text, then calls."""

    reasoning: list[str] = field(default_factory=list)
    text: str | None = None
    calls: list[Call] = field(default_factory=list)

    @property
    def has_answer(self) -> bool:
        return self.text is not None or bool(self.calls)

    def take(self) -> list[Turn]:
        """Return the turn, if it has any content, and start a new one."""
        if not self.has_answer and not self.reasoning:
            return []
        reasoning = "\n\n".join(self.reasoning) or None
        turn = Turn("assistant", self.text or "", reasoning=reasoning, calls=tuple(self.calls))
        self.reasoning, self.text, self.calls = [], None, []
        return [turn]


def to_turns(items: Iterable[Item]) -> list[Turn]:
    """Return the turns that items make. A reference that is left names an item that is already there."""
    turns: list[Turn] = []
    assistant = _AssistantTurn()
    for item in items:
        match item:
            case FunctionCall() | CustomCall():
                name = full_name(item.name, item.namespace)
                assistant.calls.append(Call(item.call_id, name, parse_arguments(item.arguments)))
            case ReasoningItem() | MessageItem(role="assistant"):
                if assistant.has_answer:
                    turns += assistant.take()
                if isinstance(item, ReasoningItem):
                    assistant.reasoning += [item.text] * bool(item.text)
                else:
                    assistant.text = _text(item.content)
            case MessageItem():
                turns += [*assistant.take(), Turn(item.role, _text(item.content))]
            case CompactionItem():
                turns += [*assistant.take(), Turn("user", f"Summary of the conversation so far:\n\n{item.text}")]
            case FunctionCallOutput():
                name_or_none = item.name and full_name(item.name, item.namespace)
                result = Turn("tool", _text(item.output), name=name_or_none, call_id=item.call_id)
                turns += [*assistant.take(), result]
    return turns + assistant.take()


def _text(contents: Contents) -> str:
    return "".join(part.text for part in contents)
