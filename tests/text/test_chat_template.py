"""transformers' rendering is the reference for every template."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from jinja2 import nodes
from text_templates import TEMPLATES
from tokenizers import Tokenizer as Backend
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from infrs.errors import BundleError, RequestError
from infrs.text.chat.sandbox import render_limits as bounds
from infrs.text.chat.template import ChatTemplate, SimpleFormat
from infrs.text.chat.template_files import load_chat_format

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
def test_template_is_found(config: Any, file: str | None, expected: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if file is not None:
        (tmp_path / "chat_template.jinja").write_text(file)
    chat_format = load_chat_format(tmp_path)
    assert isinstance(chat_format, SimpleFormat) == (expected is None)
    if expected is not None:
        assert chat_format.render([USER]) == expected
    assert isinstance(load_chat_format(tmp_path, "simple"), SimpleFormat)


def test_template_for_tools_renders_conversations_with_tools(tmp_path: Path) -> None:
    """As in transformers, from the configuration and from files, which take precedence."""
    text = "{% for m in messages %}{{ m.content }}{% endfor %}"
    named = [
        {"name": "default", "template": "D" + text},
        {"name": "tool_use", "template": "T{{ tools | tojson }}" + text},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    chat_format, tool = load_chat_format(tmp_path), [{"type": "function", "function": {"name": "get_sun"}}]
    assert chat_format.render([USER]).startswith("D")
    assert chat_format.with_tools.render([USER], variables={"tools": tool}).startswith("T[")
    assert "tools" in chat_format.variables
    folder = tmp_path / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("F" + text)
    assert load_chat_format(tmp_path).with_tools.render([USER]).startswith("F")
    (tmp_path / "chat_template.jinja").write_text("J" + text)
    assert load_chat_format(tmp_path).render([USER]).startswith("J")


def test_template_of_an_older_processor_is_found(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text('{"chat_template": "P{{ messages[0].content }}"}')
    assert load_chat_format(tmp_path).render([USER]).startswith("P")


def test_special_tokens_are_those_of_transformers(tmp_path: Path) -> None:
    text = "{{ bos_token }}{{ additional_special_tokens }}{{ image_token }}"
    config = {"chat_template": text, "bos_token": "<a>", "additional_special_tokens": ["<x>", {"content": "<y>"}]}
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<b>"}}')
    for more, expected in (
        ({}, "<b>['<x>', '<y>']"),
        ({"added_tokens_decoder": {}}, "<a>['<x>', '<y>']"),
        ({"extra_special_tokens": {"image_token": "<i>"}}, "<b>['<x>', '<y>']<i>"),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | more))
        assert load_chat_format(tmp_path).render([USER]) == expected


@pytest.mark.parametrize(
    "config",
    [
        '{"chat_template": "{% for %}"}',
        "not json",
        '{"chat_template": [1]}',
        "[]",
        "\xff",
        json.dumps({"chat_template": 3000 * "{"}),  # jinja2's parser goes down into each
        100_000 * "[",
        *(
            json.dumps({"chat_template": template})
            for template in (  # what Jinja takes and Python's compiler then refuses
                "{% break %}",
                "{{ f(a=1, a=2) }}",
                "{{ 1" + "-1" * 300 + " }}",
                "{% for a in messages %}" * 21 + "{% endfor %}" * 21,
                "{% if x %}" + "{% elif x %}" * 20_000 + "{% endif %}",
            )
        ),
    ],
    ids=range(12),
)
def test_unreadable_file_raises_bundle_error(config: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(BundleError, match="chat template cannot be read"):
        load_chat_format(tmp_path)


def test_template_parse_time_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with the cube of how deep it is: 285 signs took Jinja's optimizer seven seconds."""
    asked = []
    as_const = nodes.UnaryExpr.as_const

    def counted(node: nodes.UnaryExpr, context: nodes.EvalContext | None = None) -> object:
        asked.append(node)
        return as_const(node, context)

    monkeypatch.setattr(nodes.UnaryExpr, "as_const", counted)
    assert ChatTemplate("{{ " + "-" * 150 + "(messages | length) }}", {}).render([USER]) == "1"
    assert len(asked) <= 2 * 150  # it is compiled, and asked for the names in it


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
        ("{{ '%1000000000d' % 1 }}", "too wide"),
        ("{{ '%.1000000000f' % 1 }}", "too wide"),
        ("{{ '%*d' % (1000000000, 1) }}", "too wide"),
        ("{{ '%(a)1000000000d' % {'a': 1} }}", "too wide"),
        ("{{ ('%9999d' * 9999) % 1 }}", "too large"),
        ("{{ [1] % 2 }}", "unsupported operand"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'a' * 9999 }}{% endfor %}{% endfor %}",
            "longer",
        ),
    ],
)
def test_failing_template_raises_request_error(template: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        ChatTemplate(template, TOKENS).render([USER])
    assert caught.value.param == "messages"
    assert "\n" not in str(caught.value)


DOUBLED = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}"
LARGE = {
    "concatenation": DOUBLED % ("'ab'", "ns.x ~ ns.x"),
    "addition": DOUBLED % ("'ab'", "ns.x + ns.x"),
    "lists": DOUBLED % ("[1]", "ns.x + ns.x"),
    "a number": DOUBLED % ("9", "ns.x * ns.x"),
    "a filter's width": "{{ 'a' | center(2000000000) }}",
    "a filter's indent": "{{ messages | tojson(indent=2000000000) }}",
    "a filter's count": "{{ messages | batch(2000000000, 'x') | list }}",
    "a filter by name": "{{ ['a'] | map('center', 2000000000) | list }}",
    "a method's width": "{{ 'a'.ljust(2000000000) }}",
    "a number's method": "{{ (1).to_bytes(2000000000, 'big') }}",
    "a format": "{{ '{:>2000000000}'.format('a') }}",
    "a format's argument": "{{ '{:>{}}'.format('a', 2000000000) }}",
    "the format filter": "{{ '%*d' | format(2000000000, 1) }}",
    "replaced": "{% set a = 'a' * 60000 %}{{ a.replace('a', a) }}",
    "the replace filter": "{% set a = 'a' * 60000 %}{{ a | replace('a', a) }}",
    "translated": "{% set a = 'a' * 60000 %}{{ a.translate({97: a}) }}",
    "joined": "{% set a = 'a' * 60000 %}{{ a.join(['b'] * 60000) }}",
    "the join filter": "{% set a = 'a' * 60000 %}{{ (['b'] * 60000) | join(a) }}",
    "lists in lists, printed": "{% set a=[1]*2000 %}{% set b=[a]*2000 %}{% set c=[b]*2000 %}{{ c }}",
    "lists in lists": DOUBLED % ("[1]", "[ns.x, ns.x]"),
    "objects": DOUBLED % ("[1]", "dict(a=ns.x, b=ns.x)"),
    "Latin": "{{ lipsum(1000000000) }}",
}


@pytest.mark.parametrize("name", LARGE)
def test_template_with_unbounded_output_is_stopped(name: str) -> None:
    started = time.monotonic()
    with pytest.raises(RequestError, match=r"too large|too wide|undefined|longer than a prompt|unsafe"):
        ChatTemplate(LARGE[name], {}).render([USER])
    assert time.monotonic() - started < 10  # seconds, as the clock itself; most take milliseconds


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(9999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(99999) if j < 0 %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for i in [[[]]] * 9999 recursive %}{% for j in range(9999) %}{% endfor %}{{ loop([i]) }}{% endfor %}",
        "{{ ([range(99999)] * 60000) | map('sort') | map('first') | list }}",
    ],
)
def test_template_without_end_is_stopped(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SECONDS", 0.2)
    started = time.thread_time()
    with pytest.raises(RequestError, match=r"longer than (0\.2 s|a prompt)|too large|recursion"):
        ChatTemplate(template, {}).render([USER])
    assert time.thread_time() - started < 5


def test_each_rendering_has_its_own_budget() -> None:
    template = ChatTemplate("{% set x = messages[0].content * 60 %}{{ x | length }}", {})
    for _ in range(30):  # 60 MB of text each
        assert template.render([{"role": "user", "content": "x" * 1_000_000}]) == "60000000"


def test_normal_arithmetic_is_allowed() -> None:
    assert (
        ChatTemplate("{{ '%d: %s, %(a)5.1f' % {'a': 2} if false else '%d: {%s}' % (3, 'x') }}", {}).render([])
        == "3: {x}"
    )
    assert ChatTemplate("{{ 7 % 4 }}{{ 3 * 4 }}{{ '=' * 5 }}{{ 2.5 * 2 }}", {}).render([USER]) == "312=====5.0"
