"""The grammar of calls with tagged arguments, in Lark for llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from infrs.text.tools.argument_types import choices_of, is_open, properties_of, types_of
from infrs.text.tools.call_grammar import Literal, Tool, terms
from infrs.text.tools.call_layout import pieces, plain, regex
from infrs.text.tools.tagged.dialect_tags import Tags
from infrs.text.tools.text_limits import string_limits, text_patterns

_DEFINITIONS = ("$defs", "definitions")
_OTHER_REFERENCE = re.compile(r'"\$ref": "#(?!/\$defs/|/definitions/)')
_WORDS = {"boolean": ("true", "false", "True", "False"), "null": ("null", "None")}  # some templates write Python's


class CallRules:
    """The rules of the calls of one request.

    Arguments come in the order of the schema. A string is text up to its closing tag, with the length and the pattern
    of its schema; a `format` does not count. An argument of another type is JSON by its schema.
    """

    def __init__(self, tags: Tags, literal: Literal) -> None:
        """Prepare the rules of a dialect."""
        self._tags = tags
        self._literal = literal
        self._end = self._terms(tags.value_end)
        self._texts: dict[str, Sequence[str]] = {"text_0": ["(?s:.*)"]}  # patterns of strings by their rules

    def shared(self) -> list[str]:
        """Return the rules that the calls use, after all calls."""
        return [line for name, patterns in self._texts.items() for line in self._text_rules(name, patterns)]

    def _text_rules(self, name: str, patterns: Sequence[str]) -> list[str]:
        """Return the rules of a string with its closing tag. `patterns`: what it has to match."""
        opening, closing = self._tags.quotes
        if not opening:
            return self._until(name, patterns, "")
        return [
            f"{name}: {name}_bare | {self._literal(opening)} {name}_quoted",
            *self._until(f"{name}_bare", [*patterns, r"[^<&\n]*"], ""),
            *self._until(f"{name}_quoted", patterns, closing),
        ]

    def _until(self, name: str, patterns: Sequence[str], closing: str) -> list[str]:
        """Return the rules of a string up to the end of its quotes and the tag after it."""
        tag = plain(self._tags.value_end)
        before, _, after = self._tags.value_end.partition(tag)
        parts = pieces(before + closing + tag, self._tags.tokens)
        end = [self._literal(piece) for piece in parts if isinstance(piece, str)]
        num_texts = next((index for index, term in enumerate(end) if term.startswith("<")), len(end))
        lazy = "[lazy]" if num_texts == len(end) else ""  # a control token ends text by itself
        text = "".join(json.loads(term) for term in end[:num_texts])
        ending = f" /{regex(text)}/" if text else ""
        return [
            f"{name}: {name}_value {' '.join([*end[num_texts:], self._terms(after)])}",
            f"{name}_value{lazy}: {name.upper()}{ending}",
            f"{name.upper()}: {' & '.join(f'/{pattern}/' for pattern in patterns)}",
        ]

    def call(self, tool: Tool, index: int) -> list[str]:
        """Return the right side of the rule of a tool's call, and the rules that it uses."""
        opening, after_name, closing = self._tags.call
        parameters = tool.parameters
        required = parameters.get("required", [])
        body, rules = [], []
        for number, (name, schema) in enumerate(properties_of(parameters, parameters).items()):
            rule = f"argument_{index}_{number}"
            rules.append(f"{rule}: {self._argument(name, schema, tool)}")
            body.append(rule if name in required else f"{rule}?")
        if is_open(parameters):
            rules.append(f"more_{index}: {self._unlisted(parameters.get('additionalProperties'), tool)}")
            body.append(f"more_{index}*")
        start = self._terms(opening + tool.name + after_name)
        return [" ".join([start, *body, self._terms(closing)]), *rules]

    def _argument(self, name: str, schema: object, tool: Tool) -> str:
        opening, after_key = self._tags.key
        of_text = self._terms(f"{opening}{name}{self._tags.key_of_text or after_key}")
        of_json = self._terms(f"{opening}{name}{after_key}")
        return self._values(of_text, of_json, schema, tool)

    def _unlisted(self, schema: object, tool: Tool) -> str:
        """Return an argument that the schema does not list, with any name."""
        opening, after_key = self._tags.key
        name = r'/[^<>"\n]{1,64}/'
        of_text = f"{self._terms(opening)} {name} {self._terms(self._tags.key_of_text or after_key)}"
        of_json = f"{self._terms(opening)} {name} {self._terms(after_key)}"
        return self._values(of_text, of_json, schema, tool)

    def _values(self, of_text: str, of_json: str, schema: object, tool: Tool) -> str:
        """Return the alternatives of an argument after its key."""
        types, choices = types_of(schema, tool.parameters), choices_of(schema, tool.parameters)
        can_be_text = not types or "string" in types
        if choices and can_be_text:
            texts = [self._literal(each if isinstance(each, str) else json.dumps(each)) for each in choices]
            return f"{of_text} ({' | '.join(texts)}) {self._end}"
        if types and types <= _WORDS.keys():
            words = " | ".join(self._literal(word) for name in sorted(types) for word in _WORDS[name])
            return f"{of_json} ({words}) {self._end}"
        text, as_json = self._text(of_text, schema, tool), f"{of_json} %json {self._schema(schema, tool)} {self._end}"
        if not can_be_text:
            return as_json
        return f"{text} | {as_json}" if of_text != of_json and types != {"string"} else text

    def _text(self, of_text: str, schema: object, tool: Tool) -> str:
        """Return the alternatives of a string, which can also be null if its limits forbid that text."""
        limits = string_limits(schema, tool.parameters, strict=tool.strict)
        patterns = text_patterns(limits, strict=tool.strict)
        if not patterns:
            return f"{of_text} text_0"
        name = f"text_{len(self._texts)}"
        self._texts[name] = patterns
        can_be_null = "null" in types_of(schema, tool.parameters)
        return f"{of_text} ({name} | {self._literal('null')} {self._end})" if can_be_null else f"{of_text} {name}"

    def _schema(self, schema: object, tool: Tool) -> str:
        """Return the schema of an argument, with the definitions of its tool."""
        whole = dict(schema) if isinstance(schema, dict) else {}
        whole |= {name: tool.parameters[name] for name in _DEFINITIONS if name in tool.parameters}
        if _OTHER_REFERENCE.search(json.dumps(whole)):
            whole = {}
        return json.dumps(tool.guided(whole))

    def _terms(self, layout: str) -> str:
        return terms(pieces(layout, self._tags.tokens), self._literal)
