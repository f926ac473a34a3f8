"""Harmony, the format of gpt-oss: an answer is a list of messages in channels.

`<|channel|>analysis<|message|>...<|end|>` is reasoning, `<|channel|>final<|message|>...` content, and
`<|channel|>commentary to=functions.name <|constrain|>json<|message|>{...}<|call|>` a call. The recipient can also come
before the channel. See OpenAI's description, https://cookbook.openai.com/articles/openai-harmony.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from infrs.text.tools.call_grammar import Literal, Tool, json_arguments
from infrs.text.tools.events import Arguments, CallStart, Content, Event, Reasoning
from infrs.text.tools.parser import Syntax, held_back
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas

_START, _CHANNEL, _MESSAGE, _END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
_CONSTRAIN, _CALL, _RETURN = "<|constrain|>", "<|call|>", "<|return|>"
_BODY_ENDS = (_END, _CALL, _RETURN, _START, _CHANNEL)
_ANY_BODY_END = re.compile("|".join(map(re.escape, _BODY_ENDS)))
_ENDS = "|".join(map(re.escape, (*_BODY_ENDS, _MESSAGE)))
_HEADER_STARTS = (_START, _CHANNEL, _MESSAGE, "to=")
_HEADER_CHARS = 512  # without its end so far, the text is no header
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?([\w.-]{1,128})", re.ASCII)
_ANALYSIS = re.compile(r"<\|channel\|>\s*analysis\b")


class Harmony:
    """The format of gpt-oss. An answer has one call at most, because a call ends it."""

    signs = ("<|channel|>analysis", "<|channel|>commentary", "<|channel|>final")
    syntax = Syntax(starts=(), inner=(*_BODY_ENDS, _MESSAGE, _CONSTRAIN))

    def parser(
        self, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS
    ) -> HarmonyParser:
        """Return a parser for one answer."""
        return HarmonyParser(names, max_calls)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with a call after reasoning and other messages; unless `required`, of any."""
        start = "start: note{0,4} call" if required else "start: BARE? | note{0,4} (call | final)"
        rules = [start, *_notes(literal), *_calls(tools, literal)]
        if not required:
            rules.append(_final(literal, "TEXT?"))
            rules.append(rf"BARE: /(?s:.+)/ & ~/(?s:.*)({_ENDS})(?s:.*)/ & ~/\s*to=(?s:.*)/")
        return "\n".join(rules) + "\n"

    def answer_frame(self, tools: Sequence[Tool], literal: Literal) -> str:
        """Return the grammar of answers with a call, or with `answer` in the channel `final`; see WrappingFormat."""
        start = "start: note{0,4} (call | final)" if tools else "start: note{0,4} final"
        calls = _calls(tools, literal) if tools else []
        return "\n".join([start, *_notes(literal), *calls, _final(literal, "answer")]) + "\n"


def _notes(literal: Literal) -> list[str]:
    """Return the rules of a message before the call or the final message."""
    start, channel, message, end = map(literal, (_START, _CHANNEL, _MESSAGE, _END))
    return [
        rf"TEXT: /(?s:.+)/ & ~/(?s:.*)({_ENDS})(?s:.*)/",
        f'note: {channel} ("analysis" | "commentary") {message} until_end {start} "assistant"',
        f"until_end: TEXT? {end}" if end.startswith("<") else f"until_end[lazy]: /(?s:.*)/ {end}",
    ]


def _calls(tools: Sequence[Tool], literal: Literal) -> list[str]:
    """Return the rules of a call of one of the tools."""
    channel, message, constrain = map(literal, (_CHANNEL, _MESSAGE, _CONSTRAIN))
    rules = ["call: " + " | ".join(f"call_{index}" for index in range(len(tools)))]
    for index, tool in enumerate(tools):
        to = f"to=functions.{tool.name}"
        heads = f'" {to}" {channel} "commentary json" | {channel} "commentary {to} " {constrain} "json"'
        rules.append(f"call_{index}: ({heads}) {message} {json_arguments(tool)}")
    return rules


def _final(literal: Literal, answer: str) -> str:
    """Return the rule of the final message, with the text of `answer`."""
    return f'final: {literal(_CHANNEL)} "final" {literal(_MESSAGE)} {answer}'


class HarmonyParser:
    """A parser of one answer, which begins after `<|start|>assistant`."""

    def __init__(self, names: Collection[str], max_calls: int | None = None) -> None:
        """Start an answer. `names`: the tools of the request. `max_calls`: text after this many calls is dropped."""
        self._names = frozenset(names)
        self._calls_left = max_calls
        self._rest = ""  # not read yet
        self._event: Callable[[str], Event] | None = None  # of the message's text; None in a header
        self._is_over = False

    def expect_form(self) -> None:
        """Do nothing: a call has markers, unlike structured output."""

    def expect_call(self) -> None:
        """Do nothing: the start of a marker is never content of an answer that is cut."""

    def feed(self, text: str) -> list[Event]:
        """Return the events of the next piece of text."""
        self._rest += text
        events: list[Event] = []
        while self._rest and not self._is_over:
            new = self._header() if self._event is None else self._body(self._event)
            if new is None:
                break
            events += new
        return events

    def flush(self, *, cut: bool = False) -> list[Event]:
        """Return withheld text as content, or as the text of its message. `cut`: drop it, because it is a marker."""
        text, self._rest = self._rest, ""
        if cut or self._is_over or not text:
            return []
        return [(self._event or Content)(text)]

    def _header(self) -> list[Event] | None:
        """Read what comes before a message's text; None to wait for more of it. An answer can have no header."""
        begun = self._rest.lstrip()
        if not begun.startswith(_HEADER_STARTS):
            if not any(start.startswith(begun) for start in _HEADER_STARTS):
                self._event = Content
                return []
            return None
        end = self._rest.find(_MESSAGE, 0, _HEADER_CHARS)
        if end < 0:
            if len(self._rest) < _HEADER_CHARS:
                return None
            self._event = Content
            text, self._rest = self._rest[:_HEADER_CHARS], self._rest[_HEADER_CHARS:]
            return [Content(text)]
        end += len(_MESSAGE)
        header, self._rest = self._rest[:end], self._rest[end:]
        recipient = _RECIPIENT.search(header)
        if recipient and recipient[1] in self._names:
            if self._calls_left is not None:
                self._calls_left -= 1
            self._event = Arguments
            return [CallStart(recipient[1])]
        self._event = Reasoning if _ANALYSIS.search(header) else Content
        return [Content(header)] if recipient else []

    def _body(self, event: Callable[[str], Event]) -> list[Event] | None:
        """Read the text of a message, up to a marker; None to wait for the rest of a marker."""
        found = _ANY_BODY_END.search(self._rest)
        keep = held_back(self._rest, _BODY_ENDS)
        end = found.start() if found else len(self._rest) - keep
        text, self._rest = self._rest[:end], self._rest[end:]
        if found is None:
            return [event(text)] if text else None
        if found[0] not in (_START, _CHANNEL):  # which begin the next header
            self._rest = self._rest[len(found[0]) :]
        self._is_over = event is Arguments and self._calls_left == 0
        self._event = None
        return [event(text)] if text else []


HARMONY = Harmony()
