"""Constraints on an answer's text, which `infrs.engine.sampling.grammar` compiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ConstraintKind = Literal["json_schema", "regex", "choice", "grammar", "calls"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """A language, and the request field that asked for it.

    text: for json_schema the schema as JSON, for choice a JSON list of strings, for grammar Lark or GBNF, for calls
    Lark that `infrs.text.tools` has made of the tools' schemas.
    param: what an error names. after: unless empty, free text that ends with it comes first, such as a reasoning block.
    or_else: another language that the text may be of instead, which must not begin like this one.
    """

    kind: ConstraintKind
    text: str
    param: str = field(compare=False)
    after: str = ""
    or_else: Constraint | None = None


JSON_OBJECT = '{"type":"object"}'
