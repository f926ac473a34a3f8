"""Constraints on an answer's text, which `infrs.engine.sampling.grammar` compiles."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import orjson

ConstraintKind = Literal["json_schema", "regex", "choice", "grammar", "calls"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """A language, and the request field that selects it.

    text: for json_schema the schema as JSON, for choice a JSON list of strings, for grammar Lark or GBNF, for calls
    Lark that `infrs.text.tools` makes from the tools' schemas. param: the field that errors name.
    after: if not empty, free text up
    to this Lark term comes first, such as a reasoning block up to its closing tag. or_else: an alternative language,
    which must not begin like this one. whitespace: for json_schema, if not empty, the regex of what may stand between
    two tokens of JSON. frame: if not empty, the Lark rules of the whole answer, in which this language is the rule
    `answer`.
    """

    kind: ConstraintKind
    text: str
    param: str = field(compare=False)
    after: str = ""
    or_else: Constraint | None = None
    whitespace: str = ""
    frame: str = ""


JSON_OBJECT = '{"type":"object"}'


def to_json(value: object) -> str:
    """Return the JSON of a schema or of choices. `json` would hold the interpreter lock ten times longer."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a Python program may pass integers of more than 64 bits, and keys that are not strings
        return json.dumps(value)
