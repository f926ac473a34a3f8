"""The neutral form of a request for answers: what generation needs, whichever API the client speaks.

Each API's `convert` module makes these values from its request body. Nothing here is validated again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infrs.text.constraint import Constraint
from infrs.text.tools.call_grammar import Tool

Variables = Mapping[str, str | int | float | bool]
THINKING_SWITCHES = ("enable_thinking", "thinking")  # names of the variable in chat templates


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that the assistant made. arguments: the parsed JSON object, or the text if it is not an object."""

    id: str
    name: str
    arguments: object


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. role: developer, system, user, assistant, tool or function.

    reasoning: the assistant's reasoning before its content. call_id: the call that a tool turn has the result of.
    """

    role: str
    content: str = ""
    name: str | None = None
    reasoning: str | None = None
    calls: tuple[Call, ...] = ()
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class FieldNames:
    """How the client's API names a field. Errors use these names."""

    messages: str = "messages"
    reasoning_effort: str = "reasoning_effort"
    tools: str = "tools"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and tools, and how they become a prompt.

    tools: the tools that the answer may call. continue_last: the prompt ends inside the last turn, and the answer
    continues it. add_generation_prompt: the prompt ends where a new message of the assistant begins.
    variables: variables of the chat template that the client sets. thinks: turns reasoning on, where a template has a
    switch. thinking_budget: most tokens of reasoning, for templates that read it.
    """

    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    continue_last: bool = False
    add_generation_prompt: bool = True
    variables: Variables = field(default_factory=dict)
    reasoning_effort: str | None = None
    thinks: bool = False
    thinking_budget: int | None = None
    field_names: FieldNames = FieldNames()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How to generate the answers to a prompt.

    sampling: the fields of SamplingParams that the client sets; the model's defaults apply to the others.
    max_tokens: None is the end of the context. num_choices: answers per prompt. num_logprobs: alternatives shown with
    each token; None is no log-probabilities. include_usage: a stream ends with the token counts.
    usage_in_every_chunk: each chunk of a stream has the token counts so far.
    """

    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    num_choices: int = 1
    num_logprobs: int | None = None
    stream: bool = False
    include_usage: bool = False
    usage_in_every_chunk: bool = False


@dataclass(frozen=True, slots=True)
class ChatTask:
    """A conversation to answer.

    constraint: the language of the answer's text, unless the answer is a tool call. must_call: the answer is a tool
    call. max_calls: tool calls per answer; None is any number. whitespace: of calls' arguments, as in Constraint.
    """

    conversation: Conversation
    options: GenerationOptions = GenerationOptions()
    constraint: Constraint | None = None
    must_call: bool = False
    max_calls: int | None = None
    whitespace: str = ""
