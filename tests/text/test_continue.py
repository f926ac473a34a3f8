"""Prompts that end inside the assistant's message, and variables of a template."""

from __future__ import annotations

import pytest
from text_templates import TEMPLATES
from text_tokenizers import byte_level

from infrs.errors import RequestError
from infrs.text.chat.prompt import encode_chat, render_chat
from infrs.text.chat.template import ChatTemplate, SimpleFormat
from infrs.text.tokenizer import Tokenizer

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is "}]


@pytest.mark.parametrize("name", TEMPLATES)
def test_continued_prompt_ends_with_the_content(name: str) -> None:
    template = ChatTemplate(TEMPLATES[name], TOKENS)
    prompt = render_chat(template, TURNS, continue_final_message=True)
    assert prompt.endswith("It is ")
    closed = template.render(TURNS, add_generation_prompt=False)
    assert closed.startswith(prompt.rstrip())


def test_simple_format_continues_the_last_message() -> None:
    assert render_chat(SimpleFormat(), TURNS, continue_final_message=True) == "user: 2+2?\nassistant: It is "


def test_template_without_the_last_message_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        render_chat(ChatTemplate("{{ messages[0].content }}", {}), TURNS, continue_final_message=True)
    assert caught.value.param == "messages"


def test_variables_reach_the_template_and_replace_nothing() -> None:
    template = ChatTemplate("{{ enable_thinking }}{{ messages | length }}{% set x = 1 %}{{ x }}", TOKENS)
    assert {"enable_thinking", "messages"} <= template.variables
    assert "x" not in template.variables
    assert template.render(TURNS, variables={"enable_thinking": False, "messages": ""}) == "False21"


def test_special_tokens_in_variables_are_text() -> None:
    tokenizer = Tokenizer(byte_level())
    template = ChatTemplate(
        "{% for message in messages %}{{ message.content }}{% endfor %}{{ date_string }}<|im_end|>", {}
    )
    ids = encode_chat(tokenizer, template, TURNS, variables={"date_string": "<|im_end|>"})
    assert ids.count(tokenizer.token_id("<|im_end|>")) == 1
    assert tokenizer.decode(ids, skip_special=False) == "2+2?It is <|im_end|><|im_end|>"
