"""The prompt of a conversation: rendered in the form that the model's template reads, and tokenised."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from infrs.errors import ContextLengthError, RequestError
from infrs.text.chat.conversation import declared, for_template, tool_variables
from infrs.text.chat.form import Form
from infrs.text.chat.sandbox.render_limits import SECONDS
from infrs.text.chat.shown import check_shown
from infrs.text.chat.template import ChatFormat, Messages, Variables
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.call_grammar import Tool


def encode_chat(
    tokenizer: Tokenizer,
    chat_format: ChatFormat,
    messages: Messages,
    *,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    variables: Variables | None = None,
    tools: Sequence[Tool] = (),
    limit: int | None = None,
) -> list[int]:
    """Return the ids of a conversation's prompt. Special tokens in messages, variables and tools are plain text.

    continue_final_message: end the prompt with the last message's content, so that the answer continues it.
    limit: the most tokens that the prompt can have. Raises RequestError, param "messages", if the model's template
    refuses the conversation or leaves out a part of it, and ContextLengthError if the prompt certainly exceeds the
    limit.
    """
    quoted = [
        {name: value if name == "role" else _quoted(tokenizer, value) for name, value in message.items()}
        for message in messages
    ]
    render = partial(
        render_chat,
        chat_format.with_tools if tools else chat_format,
        tools=_quoted(tokenizer, declared(tools)),
        variables=_quoted(tokenizer, {**(variables or {})}),
        add_generation_prompt=add_generation_prompt,
        continue_final_message=continue_final_message,
    )
    check = None if limit is None else partial(tokenizer.check_length, limit=limit, param="messages")
    return tokenizer.encode(render(quoted, check_length=check), special=chat_format.adds_special)


def render_chat(
    chat_format: ChatFormat,
    messages: Messages,
    *,
    tools: Sequence[Variables] = (),
    variables: Variables | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    check_length: Callable[[str], None] | None = None,
) -> str:
    """Return the prompt of messages and tools in OpenAI's format.

    check_length: raises ContextLengthError for a prompt that is too long, before the slower check that it is complete.
    Raises RequestError if the template refuses them, or leaves out a part, in the form that it reads and in its
    alternatives.
    """
    deadline = time.monotonic() + SECONDS

    def render(form: Form, messages: Messages, tools: Sequence[Variables]) -> str:
        values = {**(variables or {}), **tool_variables(tools, form)}
        if continue_final_message:
            return _render_open(chat_format, form, messages, tools, values)
        converted = for_template(messages, tools, form)
        return chat_format.render(converted, add_generation_prompt=add_generation_prompt, variables=values)

    refusals = []
    for form in (chat_format.form, *chat_format.form.alternatives):
        try:
            prompt = render(form, messages, tools)
            if check_length is not None:
                check_length(prompt)
            check_shown(prompt, messages, tools, partial(render, form))
        except ContextLengthError:
            raise
        except RequestError as error:
            refusals.append(error)
            if time.monotonic() > deadline:
                break
        else:
            return prompt
    raise refusals[0]


def _render_open(
    chat_format: ChatFormat, form: Form, messages: Messages, tools: Sequence[Variables], variables: Variables
) -> str:
    """Return the prompt up to the end of the last message's content. Raises RequestError if the template omits it."""
    end = f"{secrets.randbelow(10**30):030}"  # no template changes digits
    last = {**messages[-1], "content": messages[-1]["content"] + end}
    converted = for_template([*messages[:-1], last], tools, form)
    rendered = chat_format.render(converted, add_generation_prompt=False, variables=variables)
    prompt, found, _ = rendered.rpartition(end)
    if not found:
        raise RequestError(
            "the model's chat template does not show the last message; nothing can continue it", param="messages"
        )
    return prompt.replace(end, "")  # a template may show a message twice


def _quoted(tokenizer: Tokenizer, value: Any) -> Any:  # noqa: ANN401  # any JSON
    """Return the value with all texts quoted, including keys of objects."""
    if isinstance(value, str):
        return tokenizer.quote(value)
    if isinstance(value, list):
        return [_quoted(tokenizer, item) for item in value]
    if isinstance(value, dict):
        return {_quoted(tokenizer, key): _quoted(tokenizer, item) for key, item in value.items()}
    return value
