"""The grammar of calls with bracketed arguments, in Lark for llguidance."""

from __future__ import annotations

import json
from collections.abc import Mapping

from infrs.text.schemas.guided import guided, guided_leniently
from infrs.text.schemas.tree import resolve
from infrs.text.tools.argument_types import choices_of, is_open, properties_of
from infrs.text.tools.call_grammar import Literal, Tool
from infrs.text.tools.call_layout import regex
from infrs.text.tools.literals.notation import CallSyntax
from infrs.text.tools.text_limits import string_limits, text_patterns

_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_ESCAPED = r"""\\(["'\\\/bfnrt]|u[0-9A-Fa-f]{4})"""
_STRINGS = rf"""/"([^"\\]|{_ESCAPED})*"|'([^'\\]|{_ESCAPED})*'/"""
_BARE_NAME = r"/[A-Za-z_][A-Za-z0-9_]{0,63}/"
_NOTHING = '""'


class CallRules:
    """The rules of the calls of one request.

    Arguments come in the order of the schema, or of their names if the notation is sorted. A string has the
    length and the pattern of its schema; a `format` does not count.
    """

    def __init__(self, call: CallSyntax, literal: Literal) -> None:
        """Prepare the rules of a language."""
        self._before = call.before
        self._notation = call.notation
        self._literal = literal
        self._comma = literal(call.notation.comma)
        self._colon = literal(call.notation.colon)
        self._rules: dict[str, str] = {}  # bodies by names
        self._names: dict[str, str] = {}  # names by bodies
        self._is_strict = False  # whether the current tool is
        self._values: dict[int, tuple[object, str]] = {}  # schemas with their rules, by identity

    def call(self, tool: Tool) -> str:
        """Return the right side of the rule of a tool's call."""
        notation, parameters = self._notation, tool.parameters
        self._is_strict = tool.strict
        keys = {name: self._literal(name + notation.assign) for name in properties_of(parameters, parameters)}
        other = f"{_BARE_NAME} {self._literal(notation.assign)}" if is_open(parameters) else ""
        members = self._members(parameters, parameters, keys, other)
        opening = self._literal(f"{self._before}{tool.name}{notation.opening}")
        return f"{opening} {members} {self._literal(notation.close)}"

    def rules(self) -> list[str]:
        """Return the rules that the calls use."""
        return [f"{name}: {body}" for name, body in self._rules.items()]

    def _rule(self, body: str) -> str:
        """Return the name of a rule with this body."""
        if body not in self._names:
            self._names[body] = f"literal_{len(self._names)}"
            self._rules[self._names[body]] = body
        return self._names[body]

    def _value(self, schema: object, root: object) -> str:
        """Return the rule of a value. A schema can refer to itself, so the name comes before the body."""
        if id(schema) not in self._values:
            name = f"value_{len(self._values)}"
            self._values[id(schema)] = schema, name
            self._rules[name] = " | ".join(dict.fromkeys(self._alternatives(schema, root)))
        return self._values[id(schema)][1]

    def _alternatives(self, schema: object, root: object) -> list[str]:
        if choices := choices_of(schema, root):
            return [self._constant(choice) for choice in choices]
        if not isinstance(schema, Mapping):
            return self._any()
        if isinstance(schema.get("$ref"), str):
            return [self._value(resolve(root, schema["$ref"]), root)]
        for keyword in ("anyOf", "oneOf", "allOf"):
            children = schema.get(keyword)
            if isinstance(children, list) and children:
                return [self._value(child, root) for child in children[: 1 if keyword == "allOf" else None]]
        named = schema.get("type")
        types = [named] if isinstance(named, str) else named
        return [each for name in types for each in self._typed(name, schema, root)] if types else self._any()

    def _typed(self, name: object, schema: Mapping[str, object], root: object) -> list[str]:
        """Return the alternatives of a value of one JSON type."""
        match name:
            case "string":
                term = self._string(schema, root)
            case "integer" | "number":
                limits = {keyword: schema[keyword] for keyword in _LIMITS if keyword in schema}
                term = f"%json {json.dumps(guided_leniently({'type': name, **limits}))}"
            case "boolean":
                term = f"{self._constant(True)} | {self._constant(False)}"
            case "null":
                term = self._constant(None)
            case "array":
                term = self._array(schema, root)
            case "object":
                keys = {key: self._key(key) for key in properties_of(schema, root)}
                other = self._any_key() if is_open(schema, default=not keys) else ""
                term = f'"{{" {self._members(schema, root, keys, other)} "}}"'
            case _:
                return self._any()
        return [term]

    def _any(self) -> list[str]:
        """Return the alternatives of a value without a type."""
        types = ("string", "number", "boolean", "null", "array", "object")
        return [each for name in types for each in self._typed(name, {}, {})]

    def _members(self, schema: Mapping[str, object], root: object, keys: Mapping[str, str], other: str) -> str:
        """Return the rule of an object's members.

        keys: the terms of the listed keys. other: the terms of any other key; empty if no other is allowed.
        """
        listed, required = properties_of(schema, root), schema.get("required")
        needed = required if isinstance(required, list) else []
        first, rest = [_NOTHING], _NOTHING
        if other:
            member = self._rule(f"{other} {self._value(schema.get('additionalProperties'), root)}")
            rest = self._rule(f"({self._comma} {member})*")
            first.append(f"{member} {rest}")
        for name in reversed(sorted(listed, key=str.lower) if self._notation.is_sorted else [*listed]):
            member = self._rule(f"{keys[name]} {self._value(listed[name], root)}")
            first = [f"{member} {rest}", *([] if name in needed else first)]
            rest = self._rule(f"({self._comma} {member}){'' if name in needed else '?'} {rest}")
        return self._rule(" | ".join(first))

    def _array(self, schema: Mapping[str, object], root: object) -> str:
        least, most = schema.get("minItems"), schema.get("maxItems")
        if most == 0:
            return '"[" "]"'
        item = self._value(schema.get("items"), root)
        fewest = max(least - 1, 0) if isinstance(least, int) else 0
        times = f"{{{fewest},{max(most - 1, fewest)}}}" if isinstance(most, int) else f"{{{fewest},}}"
        items = f"({item} ({self._comma} {item}){times})"
        return f'"[" {items}{"" if least else "?"} "]"'

    def _string(self, schema: object = None, root: object = None) -> str:
        """Return the term of a string. One with escapes and limits is written as in JSON."""
        limits = string_limits(schema, root, strict=self._is_strict)
        if self._notation.escapes:
            if not limits:
                return self._rule(_STRINGS)
            limits["type"] = "string"
            return f"%json {json.dumps(guided(limits) if self._is_strict else guided_leniently(limits))}"
        quote = self._literal(self._notation.quotes[0])
        patterns = text_patterns(limits, strict=self._is_strict) or ["(?s:.*)"]
        text = f"TEXT_{len(self._rules)}"
        self._rules[text] = " & ".join(f"/{pattern}/" for pattern in patterns)
        if quote.startswith("<"):  # a control token ends text by itself
            return f"{quote} {text} {quote}"
        self._rules[f"{text.lower()}[lazy]"] = f"{text} /{regex(self._notation.quotes[0])}/"
        return f"{quote} {text.lower()}"

    def _key(self, key: str) -> str:
        if not self._notation.has_quoted_keys:
            return self._literal(key + self._notation.colon)
        return f"{self._constant(key)} {self._colon}"

    def _any_key(self) -> str:
        return f"{self._string() if self._notation.has_quoted_keys else _BARE_NAME} {self._colon}"

    def _constant(self, value: object) -> str:
        """Return the term of a value, with all its spellings."""
        notation = self._notation
        if isinstance(value, bool) or value is None:
            spellings = notation.words[2 if value is None else 0 if value else 1]
        elif not isinstance(value, str):
            spellings = (json.dumps(value),)
        elif notation.escapes:
            quoted = json.dumps(value, ensure_ascii=False)
            single = quoted[1:-1].replace('\\"', '"').replace("'", "\\'")
            spellings = (quoted, f"'{single}'")
        else:
            quote = self._literal(notation.quotes[0])
            return f"{quote} {self._literal(value)} {quote}"
        return f"({' | '.join(map(self._literal, spellings))})"
