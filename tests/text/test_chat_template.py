"""transformers' rendering is the reference for every template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from text_templates import TEMPLATES
from tokenizers import Tokenizer as Backend
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from infrs.errors import BundleError, RequestError
from infrs.text.chat_template import ChatTemplate, SimpleFormat, load_chat_format

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
USER = {"role": "user", "content": '  What\'s <2+2> & "é"?\n'}
CONVERSATIONS = [
    [USER],
    [USER, {"role": "assistant", "content": " 4 "}, {"role": "user", "content": "Sure? 😀"}],
    [{"role": "system", "content": "Be brief."}, USER],
]


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["user", "turns", "system"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_renders_as_transformers(name: str, messages: list[dict[str, str]], prompted: bool) -> None:
    reference = PreTrainedTokenizerFast(
        tokenizer_object=Backend(models.BPE()), chat_template=TEMPLATES[name], add_bos_token=False, **TOKENS
    )
    template = ChatTemplate(TEMPLATES[name], TOKENS)
    if name == "gemma" and messages[0]["role"] == "system":
        with pytest.raises(RequestError, match="System role not supported") as caught:
            template.render(messages)
        assert caught.value.param == "messages"
        return
    expected = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompted)
    assert template.render(messages, add_generation_prompt=prompted) == expected


def test_simple_format() -> None:
    simple = SimpleFormat()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    assert simple.render(messages) == "system: Be brief.\nuser: 2+2?\nassistant:"
    assert simple.render(messages, add_generation_prompt=False) == "system: Be brief.\nuser: 2+2?"
    assert set(simple.stop) == {"\nsystem:", "\nuser:", "\nassistant:"}


def test_demo_template(demo_text: Path) -> None:
    prompt = load_chat_format(demo_text).render([{"role": "user", "content": "Hi"}])
    assert prompt == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("config", "file", "expected"),
    [
        (None, None, None),
        ({}, None, None),
        ({"chat_template": "A{{ bos_token }}", "bos_token": "<s>"}, None, "A<s>"),
        ({"chat_template": "A{{ bos_token }}", "bos_token": {"content": "<b>", "lstrip": False}}, None, "A<b>"),
        ({"chat_template": "A{{ bos_token }}", "bos_token": None}, None, "A"),
        ({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}, None, "D"),
        ({"chat_template": [{"name": "tool_use", "template": "T"}]}, None, None),
        ({"chat_template": "A", "eos_token": "</s>"}, "B{{ eos_token }}", "B</s>"),
    ],
)
def test_where_the_template_is(config: Any, file: str | None, expected: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if file is not None:
        (tmp_path / "chat_template.jinja").write_text(file)
    chat_format = load_chat_format(tmp_path)
    assert isinstance(chat_format, SimpleFormat) == (expected is None)
    if expected is not None:
        assert chat_format.render([USER]) == expected
    assert isinstance(load_chat_format(tmp_path, "simple"), SimpleFormat)


@pytest.mark.parametrize(
    "config", ['{"chat_template": "{% for %}"}', "not json", '{"chat_template": [1]}', "[]", "\xff"]
)
def test_what_cannot_be_read_is_a_bundle_error(config: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(BundleError, match="chat template cannot be read"):
        load_chat_format(tmp_path)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('Roles must\n alternate') }}", "Roles must alternate$"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "unsafe|undefined"),
        ("{{ 'a' * 10**9 }}", "too large"),
        ("{{ 'a' * 1000000000 }}", "too large"),
        ("{{ 1000000000 * 'a' }}", "too large"),
        ("{{ '%1000000000d' % 1 }}", "too large"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'a' * 9999 }}{% endfor %}{% endfor %}",
            "longer",
        ),
    ],
)
def test_a_template_that_fails_or_misbehaves(template: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        ChatTemplate(template, TOKENS).render([USER])
    assert caught.value.param == "messages"
    assert "\n" not in str(caught.value)


def test_harmless_arithmetic_is_left_alone() -> None:
    assert ChatTemplate("{{ 7 % 4 }}{{ 3 * 4 }}{{ '=' * 5 }}{{ 2.5 * 2 }}", {}).render([USER]) == "312=====5.0"
