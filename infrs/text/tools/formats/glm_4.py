"""GLM-4-0414: a call is the name of a tool on a line, then its arguments in JSON.

The prompt ends with `<|assistant|>`. The name comes straight after it, and text for the user after a line break.
Several calls, and a call after text, have `<|assistant|>` between them. `<|observation|>` ends an answer with calls.
See https://huggingface.co/zai-org/GLM-4-32B-0414, `chat_template.jinja`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from infrs.text.tools.call_grammar import Frame, Literal, Tool, calls_grammar, json_arguments
from infrs.text.tools.call_layout import regex
from infrs.text.tools.events import Event
from infrs.text.tools.json_parser import NAME_PATTERN, Head, JsonCallParser
from infrs.text.tools.parser import Syntax
from infrs.text.tools.tool_format import NO_SCHEMAS, Schemas

_MARKER = "<|assistant|>"
_SYNTAX = Syntax(starts=(_MARKER,))


class Glm4:
    """The format of GLM-4-0414."""

    signs = ()  # its template renders calls
    syntax = _SYNTAX

    def parser(self, names: Collection[str], max_calls: int | None = None, schemas: Schemas = NO_SCHEMAS) -> Glm4Parser:
        """Return a parser for one answer."""
        return Glm4Parser(names, max_calls)

    def grammar(self, tools: Sequence[Tool], literal: Literal, *, many: bool, required: bool) -> str:
        """Return the grammar of answers with calls; unless `required`, with text before them or alone."""
        calls = [f"{literal(f'{tool.name}{chr(10)}')} {json_arguments(tool)}" for tool in tools]
        rules = calls_grammar(_SYNTAX, Frame(between=(_MARKER,)), calls, literal, many=many, required=True)
        if required:
            return rules
        names = "|".join(regex(tool.name) for tool in tools)
        text = rf"TEXT: /(?s:.+)/ & ~/(?s:.*){regex(_MARKER)}(?s:.*)/ & ~/\s*({names})\n(?s:.*)/"
        return f"start: calls | TEXT? | TEXT {literal(_MARKER)} calls\n{text}\n" + rules.partition("\n")[2]


class Glm4Parser(JsonCallParser):
    """A parser of one answer, which begins after a marker."""

    def __init__(self, names: Collection[str], max_calls: int | None = None) -> None:
        """Start an answer, as CallParser does."""
        super().__init__(_SYNTAX, names, max_calls, Head(named=rf"\s*{NAME_PATTERN}\s*\n\s*"))
        self._open_call("")

    def _call(self) -> Iterator[Event | None]:
        """Read the name of a tool on a line, and a brace on the next. Any other text is content."""
        if self._may_be_call():
            yield from super()._call()
        else:
            yield self._refuse()

    def _may_be_call(self) -> bool:
        """Return whether the text is the line of a tool's name with a brace after it, or the start of that."""
        line, has_break, after = self._rest.lstrip().partition("\n")
        if has_break:
            return line.rstrip() in self._names and after.lstrip()[:1] in ("", "{")
        return any(name.startswith(line.rstrip()) for name in self._names)


GLM_4 = Glm4()
