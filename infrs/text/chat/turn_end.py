"""Find the token that ends a turn of a chat template, by rendering an answer."""

from __future__ import annotations

from infrs.errors import RequestError
from infrs.text.chat.template import ChatFormat
from infrs.text.tokenizer import Tokenizer

_ANSWER = "81470326159"  # no template changes digits


def find_turn_end(chat_format: ChatFormat, tokenizer: Tokenizer, reasoning_end: str = "") -> int | None:
    """Return the control token that the template writes after an answer, or None if there is no such token.

    reasoning_end: the text after reasoning. A token in it does not end an answer.
    """
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _ANSWER}]
    try:
        rendered = chat_format.render(messages, add_generation_prompt=False)
    except RequestError:  # the first request gets the template's message
        return None
    _, found, after = rendered.rpartition(_ANSWER)
    texts = {tokenizer.token(token_id): token_id for token_id in tokenizer.special_ids}
    ends = [text for text in texts if text and found and after.lstrip().startswith(text)]
    end = max(ends, key=len, default="")
    return texts[end] if end and end not in reasoning_end else None
