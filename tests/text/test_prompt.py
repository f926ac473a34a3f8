"""No part of a conversation is lost: the prompt shows it, or the request is refused by name."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_templates import REAL_TEMPLATES, TOKENS, chat_template
from text_templates import TEMPLATES

from infrs.errors import ContextLengthError, RequestError
from infrs.text.chat.conversation import declared
from infrs.text.chat.prompt import render_chat
from infrs.text.chat.template import ChatFormat, ChatTemplate, SimpleFormat
from infrs.text.tools.call_grammar import Tool

FORMATS = ["plain format", *REAL_TEMPLATES, *(f"short {name}" for name in TEMPLATES)]
TOOLS = declared(
    [
        Tool(
            "get_sun",
            "Return the sun.",
            {"type": "object", "properties": {"city": {"type": "string", "description": "A city."}}, "required": []},
        )
    ]
)
# Templates that need variables of their own, such as the time.
NEEDS_VARIABLES = {"firefunction-2"}
SHOWS_ALL = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"


@cache
def chat_format(name: str) -> ChatFormat:
    """Return a format of FORMATS. To compile all of them takes seconds, so collection does not."""
    if name in REAL_TEMPLATES:
        return chat_template(name)
    text = TEMPLATES.get(name.removeprefix("short "))
    return SimpleFormat() if text is None else ChatTemplate(text, TOKENS)


def numbered(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Replace each `@` in texts by a number of its own, and return these numbers."""
    numbers: list[str] = []

    def fill(value: Any) -> Any:
        if isinstance(value, str) and "@" in value:
            numbers.append(str(90_000_000 + len(numbers)))
            return value.replace("@", numbers[-1])
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list) else value

    return fill(messages), numbers


def say(role: str, content: str = "@", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def calls(*ids: str, content: str = "", **arguments: Any) -> dict[str, Any]:
    function = {"name": "get_@", "arguments": arguments or {"city": "@", "days": 3}}
    return say("assistant", content, tool_calls=[{"id": i, "type": "function", "function": function} for i in ids])


def result(call_id: str, content: str = "@") -> dict[str, Any]:
    return say("tool", content, tool_call_id=call_id, name="get_sun")


ORDINARY: dict[str, list[dict[str, Any]]] = {
    "turns": [say("user"), say("assistant"), say("user")],
    "system": [say("system"), say("user"), say("assistant"), say("user")],
    "system twice": [say("system"), say("system"), say("user")],
    "system later": [say("system"), say("user"), say("assistant"), say("system"), say("user")],
    "call": [say("user"), calls("call_1"), result("call_1")],
    "text and call": [say("system"), say("user"), calls("call_1", content="@"), result("call_1")],
    "two calls": [say("user"), calls("call_1", "call_2"), result("call_1"), result("call_2")],
    "answered call": [say("user"), calls("call_1"), result("call_1"), say("assistant"), say("user")],
    "two rounds": [
        say("user"),
        calls("a"),
        result("a"),
        calls("b", content="@"),
        result("b"),
        say("assistant"),
        say("user"),
    ],
    "escaped texts": [
        say("user", ' "@"\n\\ <b>@</b>\t'),
        calls("call_1", city='"@"\n', text="\\@ é", deep={"list": ["@", {"key": "@"}]}),
        result("call_1", '{"sun": "@",\n "é": true}'),
    ],
    "no arguments": [say("user"), {**calls("call_1")}, result("call_1", "")],
}
ORDINARY["no arguments"][1]["tool_calls"][0]["function"] = {"name": "get_@", "arguments": {}}


@pytest.mark.parametrize("name", FORMATS)
def test_prompt_of_an_ordinary_conversation_shows_all_of_it(name: str) -> None:
    for kind, conversation in ORDINARY.items():
        messages, numbers = numbered(conversation)
        for tools in ([], TOOLS):
            if name in NEEDS_VARIABLES:
                with pytest.raises(RequestError, match="refuses these messages"):
                    render_chat(chat_format(name), messages, tools=tools)
                continue
            prompt = render_chat(chat_format(name), messages, tools=tools)
            assert [number for number in numbers if number not in prompt] == [], (kind, bool(tools), prompt)
            assert "get_sun" in prompt or not tools


texts = st.sampled_from(["", "@", " @ ", '"@"\n', "</think>@", "<b>@</b>", "{'@'}", "@\\", "<tool_call>@", "[@"])
values = st.recursive(
    st.sampled_from(["", "@", '\n"@"', 0, 31.5, True, False, None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)
arguments = st.dictionaries(st.sampled_from(["city", "days", "deep"]), values, max_size=3)
ids = st.sampled_from(["a", "call_1", "call_abcdefghijkl", "ninechars"])


@st.composite
def turn(draw: st.DrawFn) -> list[dict[str, Any]]:
    role = draw(st.sampled_from(["system", "user", "assistant", "calls"]))
    if role != "calls":
        return [say(role, draw(texts))]
    called = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    message = say("assistant", draw(texts), tool_calls=[calls(i, **draw(arguments))["tool_calls"][0] for i in called])
    return [message, *(result(i, draw(texts)) for i in draw(st.permutations(called)))]


conversations = st.lists(turn(), min_size=1, max_size=6).map(
    lambda turns: [message for turn in turns for message in turn]
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(conversation=conversations, tools=st.sampled_from([[], TOOLS]))
def test_prompt_shows_each_part_or_the_request_is_refused(
    name: str, conversation: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> None:
    messages, numbers = numbered(conversation)
    try:
        prompt = render_chat(chat_format(name), messages, tools=tools)
    except RequestError as error:
        words = (
            r"refuses these messages: |leaves out (.* the tool get_sun|messages\[\d+\]\.\w+(\[\d+\])? \(role \w+\));"
        )
        assert re.search(words, error.message)  # noqa: PT017  # most are not refused
        assert error.param in ("messages", "tools")  # noqa: PT017
    else:
        assert [number for number in numbers if number not in prompt] == []
        assert "get_sun" in prompt or not tools


def test_refusal_names_the_message() -> None:
    hides_results = ChatTemplate(
        "{% for m in messages if '<tool_response>' not in m.content and m.role != 'tool' %}{{ m.content }}"
        "{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}",
        {},
    )
    messages, _ = numbered(ORDINARY["two rounds"])
    with pytest.raises(
        RequestError, match=r"leaves out messages\[2\]\.content \(role tool\); .* user message$"
    ) as caught:
        render_chat(hides_results, messages)
    assert caught.value.param == "messages"

    def refuse(prompt: str) -> None:
        raise ContextLengthError(f"{len(prompt)} characters")

    with pytest.raises(ContextLengthError):  # found first, because it costs less
        render_chat(hides_results, messages, check_length=refuse)
    hides_tools = ChatTemplate("{{ raise_exception('no') if 'get_sun' in messages[0].content }}" + SHOWS_ALL, {})
    with pytest.raises(RequestError, match="refuses these messages: no"):
        render_chat(hides_tools, messages, tools=TOOLS)


DESCRIBED = {
    "type": "function",
    "function": {
        "name": "get_sun",
        "description": '  Say "when" é <b>&\\ it\'s.\n\n  Second\tline 😀\n',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": 'A "city"\nor a village.'},
                "né w": {
                    "type": "object",
                    "description": "o",
                    "additionalProperties": True,
                    "properties": {"in": {"description": "below"}},
                },
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
HIDES_INNER_DESCRIPTIONS = {"gpt-oss", "seed-oss", "apertus", "command-r-plus-tool-use"}


@pytest.mark.parametrize("name", FORMATS)
def test_prompt_shows_the_descriptions_of_tools_and_their_parameters(name: str) -> None:
    """Of the inner parts of a parameter, some templates show types only, by design."""
    if name in NEEDS_VARIABLES:
        return
    prompt = render_chat(chat_format(name), [say("user", "a")], tools=[DESCRIBED])
    plain = prompt.replace("\\u00e9", "é").replace("\\n", "\n")
    for word in ("when", "é", "it", "Second", "line", "village", "city", "né w"):
        assert word in plain
    assert ("below" in prompt) == (name not in HIDES_INNER_DESCRIPTIONS)


@pytest.mark.parametrize(
    ("shown", "hidden"),
    [
        ("f.name ~ f.description ~ f.parameters.properties.city", "the name né w of the tool get_sun"),
        ("f.name ~ f.parameters", "description of the tool get_sun"),
        ("f.name ~ f.description ~ f.parameters.properties.keys()", "parameters.properties.city.description of the"),
    ],
)
def test_template_that_hides_a_part_of_a_tool_is_refused_by_name(shown: str, hidden: str) -> None:
    text = "{% for m in messages %}{{ m.content }}{% endfor %}{% for t in tools or [] %}{% set f = t.function %}{{ ^ }}"
    chat_format = ChatTemplate(text.replace("^", shown) + "{% endfor %}", {})
    with pytest.raises(RequestError, match=re.escape(f"leaves out {hidden}")) as caught:
        render_chat(chat_format, [say("user", "a")], tools=[DESCRIBED])
    assert caught.value.param == "tools"


def test_reasoning_of_earlier_turns_can_be_dropped() -> None:
    messages = [say("user", "2+2?"), say("assistant", "4", reasoning_content="Two and two."), say("user", "Sure?")]
    assert "Two and two" not in render_chat(chat_format("qwen-3"), messages)


def test_reasoning_of_the_current_turn_is_shown() -> None:
    messages = [say("user"), calls("call_1") | {"reasoning_content": "Two and two."}, result("call_1")]
    for name in ("qwen-3", "gpt-oss", "lfm-2.5"):
        assert "Two and two" in render_chat(chat_format(name), messages, tools=TOOLS), name


def test_prompt_is_rendered_once_unless_the_template_escapes_a_text() -> None:
    count = 0

    class Counted(ChatTemplate):
        def render(self, *args: Any, **kwargs: Any) -> str:
            nonlocal count
            count += 1
            return super().render(*args, **kwargs)

    template = Counted(REAL_TEMPLATES["qwen-3"].text, TOKENS)
    assert template.form
    for conversation, renderings in ((ORDINARY["two rounds"], 1), ([say("user", "</think>@ </think>")], 1)):
        count = 0
        render_chat(template, conversation, tools=TOOLS)
        assert count == renderings
