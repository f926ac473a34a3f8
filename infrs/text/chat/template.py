"""Render a conversation as a prompt, with the model's chat template or a plain format."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from infrs.errors import BundleError, RequestError
from infrs.text.chat.conversation import declared, for_template
from infrs.text.chat.sandbox import template_environment
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.call_grammar import Tool

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"
MAX_RENDERED_CHARS = 16 << 20
_ROLES = ("system", "user", "assistant")
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

Messages = Sequence[Mapping[str, Any]]
Variables = Mapping[str, Any]


class ChatFormat(Protocol):
    """The format of a conversation.

    stop: strings that end an answer, because the model would continue with the next turn. adds_special: whether the
    tokenizer must add BOS and other special tokens, because the format has none. variables: names that the format
    reads besides the messages, such as `enable_thinking`. source: the template's text, or empty.
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

    def render(
        self, messages: Messages, *, add_generation_prompt: bool = True, variables: Variables | None = None
    ) -> str:
        """Return the prompt; `add_generation_prompt` ends it where the answer begins. Raises RequestError."""


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
    refuses the conversation, and ContextLengthError if the prompt certainly exceeds the limit.
    """
    quoted = [
        {name: value if name == "role" else _quoted(tokenizer, value) for name, value in message.items()}
        for message in for_template(messages, tools, chat_format.source)
    ]
    values = _quoted(
        tokenizer,
        {**(variables or {}), **({"tools": declared(tools)} if tools and "tools" in chat_format.variables else {})},
    )
    prompt = (
        render_open(chat_format, quoted, values)
        if continue_final_message
        else chat_format.render(quoted, add_generation_prompt=add_generation_prompt, variables=values)
    )
    if limit is not None:
        tokenizer.check_length(prompt, limit, "messages")
    return tokenizer.encode(prompt, special=chat_format.adds_special)


def _quoted(tokenizer: Tokenizer, value: Any) -> Any:  # noqa: ANN401  # any JSON
    """Return the value with all texts quoted, including keys of objects."""
    if isinstance(value, str):
        return tokenizer.quote(value)
    if isinstance(value, list):
        return [_quoted(tokenizer, item) for item in value]
    if isinstance(value, dict):
        return {_quoted(tokenizer, key): _quoted(tokenizer, item) for key, item in value.items()}
    return value


def render_open(chat_format: ChatFormat, messages: Messages, variables: Variables | None = None) -> str:
    """Return the prompt up to the end of the last message's content. Raises RequestError if the template omits it."""
    end = f"{secrets.randbelow(10**30):030}"  # no template changes digits
    last = {**messages[-1], "content": messages[-1]["content"] + end}
    prompt, found, _ = chat_format.render(
        [*messages[:-1], last], add_generation_prompt=False, variables=variables
    ).rpartition(end)
    if not found:
        raise RequestError(
            "the model's chat template does not show the last message; nothing can continue it", param="messages"
        )
    return prompt.replace(end, "")  # a template may show a message twice


def load_chat_format(bundle: Path, chat_format: Literal["auto", "simple"] = "auto") -> ChatFormat:
    """Return the format of a bundle: its chat template, or the plain format if there is none or it is "simple".

    Raises BundleError if the template or the tokenizer's configuration cannot be read.
    """
    if chat_format == "simple":
        return SimpleFormat()
    try:
        config_path = bundle / CONFIG_FILE
        config = json.loads(config_path.read_text(encoding="utf-8")) if config_path.exists() else {}
        template_path = bundle / TEMPLATE_FILE
        source = template_path.read_text(encoding="utf-8") if template_path.exists() else _template_of(config)
        return SimpleFormat() if source is None else ChatTemplate(source, _special_tokens(config))
    except Exception as error:  # errors of Jinja, and of Python's compiler for its code
        raise BundleError(f"{bundle}: the chat template cannot be read ({error}); use chat_format simple") from error


class SimpleFormat:
    """A format with each message as `role: content` on its own line, then `assistant:`."""

    stop = tuple(f"\n{role}:" for role in _ROLES)
    adds_special = True
    source = ""
    variables: frozenset[str] = frozenset()

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

    def __init__(self, source: str, special_tokens: Mapping[str, str | list[str]]) -> None:
        """Compile a template. `special_tokens`: its `bos_token` and so on.

        Raises the errors of Jinja and of Python's compiler.
        """
        environment = template_environment()
        self.source = source
        self._budget = environment.budget
        self._template = environment.from_string(source, globals={**special_tokens})
        self.variables = environment.variables(source)

    def render(
        self, messages: Messages, *, add_generation_prompt: bool = True, variables: Variables | None = None
    ) -> str:
        """Return the prompt, as in ChatFormat. The error contains the template's message."""
        pieces, num_chars = [], 0
        self._budget.begin()
        own = {"messages": messages, "add_generation_prompt": add_generation_prompt, "documents": None}
        try:
            for piece in self._template.generate({"tools": None, **(variables or {}), **own}):
                pieces.append(piece)
                num_chars += len(piece)
                if num_chars > MAX_RENDERED_CHARS:
                    raise ValueError(f"the prompt would be longer than {MAX_RENDERED_CHARS} characters")
        except Exception as error:  # a template can raise anything
            reason = " ".join(str(error).split())[:500]
            raise RequestError(
                f"the model's chat template refuses these messages: {reason}", param="messages"
            ) from error
        return "".join(pieces)


def _template_of(config: Mapping[str, Any]) -> str | None:
    """Return the `chat_template` of a tokenizer_config.json: a string, or several by name."""
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return template


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Return the special tokens for templates. In the file each is a string or an object with `content`."""
    tokens = {name: config[name] for name in _SPECIAL_TOKENS if config.get(name) is not None}
    return {name: token if isinstance(token, str) else token["content"] for name, token in tokens.items()}
