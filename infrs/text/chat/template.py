"""The format of a conversation: a model's chat template, or a plain format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

from infrs.errors import RequestError
from infrs.text.chat.form import IN_TEXT, TEXT_FORM, Form
from infrs.text.chat.probe import probe
from infrs.text.chat.sandbox.environment import template_environment
from infrs.text.chat.sandbox.render_limits import Budget
from infrs.text.chat.written import example_call

MAX_RENDERED_CHARS = 16 << 20
_MAX_REASON = 500  # characters
_ROLES = ("system", "user", "assistant")

Messages = Sequence[Mapping[str, Any]]
Variables = Mapping[str, Any]


class ChatFormat(Protocol):
    """The format of a conversation.

    stop: strings that end an answer, because the model would continue with the next turn. adds_special: whether the
    tokenizer must add BOS and other special tokens, because the format has none. variables: names that the format
    reads besides the messages, such as `enable_thinking`. source: the template's text, or empty. form: what
    `infrs.text.chat.prompt` converts a conversation to. with_tools: the format of conversations with tools.
    """

    @property
    def source(self) -> str:
        """Return the template's text."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Return the strings that end an answer."""

    @property
    def adds_special(self) -> bool:
        """Return whether the tokenizer adds BOS and other special tokens."""

    @property
    def variables(self) -> frozenset[str]:
        """Return the names that the format reads besides the messages."""

    @property
    def form(self) -> Form:
        """Return the form of conversation that the format reads."""

    @property
    def with_tools(self) -> ChatFormat:
        """Return the format of conversations with tools, which can be this one."""

    def render(
        self, messages: Messages, *, add_generation_prompt: bool = True, variables: Variables | None = None
    ) -> str:
        """Return the prompt; `add_generation_prompt` ends it where the answer begins. Raises RequestError.

        messages: in the form that the format reads.
        """


class SimpleFormat:
    """A format with each message as `role: content` on its own line, then `assistant:`."""

    stop = tuple(f"\n{role}:" for role in _ROLES)
    adds_special = True
    source = ""
    variables: frozenset[str] = frozenset()
    form = TEXT_FORM

    @property
    def with_tools(self) -> SimpleFormat:
        """Return this format."""
        return self

    def render(
        self, messages: Messages, *, add_generation_prompt: bool = True, variables: Variables | None = None
    ) -> str:
        """Return the prompt, as in ChatFormat."""
        lines = [f"{message['role']}: {message['content']}" for message in messages]
        return "\n".join(lines + ["assistant:"] * add_generation_prompt)


class ChatTemplate:
    """A model's Jinja template in a sandbox, with the functions and settings of transformers."""

    stop: tuple[str, ...] = ()
    adds_special = False

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str | list[str]],
        tool_use: ChatTemplate | None = None,
    ) -> None:
        """Compile a template. `special_tokens`: its `bos_token` and so on. `tool_use`: the template with tools.

        Raises the errors of Jinja and of Python's compiler.
        """
        environment = template_environment()
        self.source = source
        self.with_tools: ChatTemplate = tool_use or self
        self._rendering = environment.rendering
        self._template, own = environment.compiled(source, special_tokens)
        self.variables: frozenset[str] = own if tool_use is None else own | tool_use.variables

    @cached_property
    def form(self) -> Form:
        """Return the form of conversation that the template reads, found by rendering."""
        form = probe(lambda messages, variables: self.render(messages, variables=variables))
        return replace(form, example=example_call(self.render, form)) if form.tools == IN_TEXT else form

    def render(
        self, messages: Messages, *, add_generation_prompt: bool = True, variables: Variables | None = None
    ) -> str:
        """Return the prompt, as in ChatFormat. The error contains the template's message."""
        pieces, num_chars = [], 0
        budget = self._rendering.budget = Budget()
        own = {"messages": messages, "add_generation_prompt": add_generation_prompt, "documents": None}
        try:
            for piece in self._template.generate({"tools": None, **(variables or {}), **own}):
                pieces.append(piece)
                num_chars += len(piece)
                if num_chars > MAX_RENDERED_CHARS:
                    raise ValueError(f"the prompt would be longer than {MAX_RENDERED_CHARS} characters")
            budget.make(num_chars)
            return "".join(pieces)
        except Exception as error:  # a template can raise anything
            reason = " ".join(str(error)[:_MAX_REASON].split())
            raise RequestError(
                f"the model's chat template refuses these messages: {reason}", param="messages"
            ) from error
