"""The request bodies of `/tokenize`, `/detokenize` and `/apply-template`, with the names of vLLM and llama.cpp."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import model_validator

from infrs.api.chat.request import ConversationFields
from infrs.api.common.fields import Body, Model, Neutral, parse_body, refuse
from infrs.api.common.text_or_tokens import TokenIds


class TokenizeRequest(Body):
    """A text to tokenize: `prompt` as vLLM calls it, `content` as llama.cpp does. None is "not given".

    add_special_tokens, add_special: add BOS and the like, as prompts of the model have them. As in those servers, the
    default is true for `prompt` and false for `content`. return_token_strs: show the text of each token too.
    """

    model: Model | None = None
    prompt: str | None = None
    content: str | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None
    return_token_strs: bool | None = None
    with_pieces: Annotated[Any, Neutral(False)] = None
    parse_special: Annotated[Any, Neutral(True)] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.prompt is None and self.content is None:
            refuse("prompt", "required; or send content, or messages", "missing_required_parameter")
        if self.prompt is not None and self.content is not None:
            refuse("content", "another name of prompt; send one of them")
        if None not in (self.add_special, self.add_special_tokens) and self.add_special != self.add_special_tokens:
            refuse("add_special", "differs from add_special_tokens; send one of them")
        return self

    @property
    def text(self) -> str:
        """The text, under either name."""
        return self.prompt if self.prompt is not None else self.content or ""

    @property
    def text_param(self) -> str:
        """The name of the field with the text."""
        return "content" if self.prompt is None else "prompt"

    @property
    def special(self) -> bool:
        """Whether to add BOS and the like."""
        given = self.add_special_tokens if self.add_special is None else self.add_special
        return self.prompt is not None if given is None else given


class TokenizeChatRequest(ConversationFields):
    """A conversation to tokenize, with the prompt of `/v1/chat/completions`."""

    model: Model | None = None
    return_token_strs: bool | None = None
    add_special_tokens: Annotated[Any, Neutral(False)] = None  # the chat format decides


class DetokenizeRequest(Body):
    """Token ids to decode. Control tokens are shown unless skip_special_tokens is true."""

    model: Model | None = None
    tokens: TokenIds
    skip_special_tokens: bool | None = None


class ApplyTemplateRequest(ConversationFields):
    """A conversation to show as the prompt that the model would read."""

    model: Model | None = None


def parse_tokenize_request(payload: dict[str, Any]) -> TokenizeRequest | TokenizeChatRequest:
    """Validate a body, a conversation if it has `messages`. Raises RequestError that names the field."""
    if payload.get("messages") is not None:
        return parse_body(TokenizeChatRequest, payload)
    return parse_body(TokenizeRequest, {name: value for name, value in payload.items() if name != "messages"})
