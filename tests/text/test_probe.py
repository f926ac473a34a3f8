"""What templates read, found by rendering them."""

from __future__ import annotations

import time
from dataclasses import fields

import pytest
from real_templates import REAL_TEMPLATES, TOKENS, chat_template

from infrs.text.chat import probe
from infrs.text.chat.form import TEXT_FORM, Form
from infrs.text.chat.sandbox import render_limits
from infrs.text.chat.template import ChatTemplate


def differing(form: Form) -> str:
    """The fields that differ from the defaults, as in the table of templates."""
    values = {field.name: getattr(form, field.name) for field in fields(Form) if field.name != "example"}
    changed = {name: value for name, value in values.items() if value != getattr(Form(), name)}
    texts = {
        name: ",".join(sorted(value)) if isinstance(value, frozenset) else value for name, value in changed.items()
    }
    return " ".join(name if value is True else f"{name}={value}" for name, value in texts.items())


@pytest.mark.parametrize("name", REAL_TEMPLATES)
def test_form_of_a_real_template_is_that_of_the_table(name: str) -> None:
    assert differing(chat_template(name).form) == REAL_TEMPLATES[name].form


TEXT = "tools=text calls=text results=text"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TOOL_LOOP = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}CALL @{% endfor %}{% endfor %}"
)
JSON_CALL = "{{ c.function.name }} {{ c.function.arguments | tojson }}"
# Templates, and the fields of their form.
SMALL = {
    "words in a comment": ("{# tools, tool_calls, message.tools, length 9 #}" + CHATML, TEXT),
    "words in a text": (CHATML + "{{ 'no tools and no tool_calls' }}", TEXT),
    "words in a branch that never runs": (
        "{% if false %}{{ tools }}{{ messages[0].tool_calls }}{% endif %}" + CHATML,
        TEXT,
    ),
    "parts": (
        "{% for m in messages %}{{ m.role }}: {% for p in m.content %}{{ p.text }}{% endfor %}\n{% endfor %}",
        f"part_roles=assistant,system,user {TEXT}",
    ),
    "parts of the user only": (
        "{% for m in messages %}{% if m.role == 'user' %}{% for p in m.content %}{{ p['text'] }}{% endfor %}"
        "{% else %}{{ m.content + '' }}{% endif %}{% endfor %}",
        f"part_roles=user {TEXT}",
    ),
    "a string or parts": (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}",
        TEXT,
    ),
    "calls and null content": (
        TOOL_LOOP.replace("m.tool_calls or []", "((m.tool_calls or []) if m.content is none else [])").replace(
            "@", JSON_CALL
        ),
        "empty_content=None splits_calls",
    ),
    "arguments as a string": (
        TOOL_LOOP.replace("@", "{{ c.function.name + ' ' + c.function.arguments }}"),
        "calls=string",
    ),
    "arguments printed as they are": (
        TOOL_LOOP.replace("@", "{{ c.function.name }} {{ c.function.arguments }}"),
        "calls=string",
    ),
    "arguments by key": (
        TOOL_LOOP.replace(
            "@", "{{ c.function.name }}{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}"
        ),
        "",
    ),
    "ids as names of functions": (
        TOOL_LOOP.replace("@", "{{ c.id }} {{ c.function.arguments | tojson }}"),
        "ids=named",
    ),
    "another variable for tools": (
        (TOOL_LOOP.replace("@", JSON_CALL)).replace("tools", "xml_tools"),
        "tools=xml_tools",
    ),
    "tools that must be a list": (
        "{% for t in tools %}{{ t | tojson }}{% endfor %}" + CHATML,
        "no_tools_is_list calls=text",
    ),
    "the first system message only": (
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
        f"system=first {TEXT}",
    ),
    "no system message": (
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
        f"system=nowhere {TEXT}",
    ),
    "nothing": ("{{ raise_exception('no') }}", ""),
}


@pytest.mark.parametrize("name", SMALL)
def test_form_is_what_the_template_shows(name: str) -> None:
    template, expected = SMALL[name]
    assert differing(ChatTemplate(template, TOKENS).form) == expected


def test_plain_format_gets_text() -> None:
    assert differing(TEXT_FORM) == TEXT


def test_slow_template_is_probed_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_limits, "SECONDS", 0.2)
    monkeypatch.setattr(probe, "SECONDS", 0.5)
    started = time.monotonic()
    form = ChatTemplate("{% for i in range(9999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", {}).form
    assert time.monotonic() - started < 3
    assert form == Form()
