"""The fields of structured output: OpenAI's `response_format`, vLLM's `guided_*` and llama.cpp's names."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from infrs.api.common.fields import OR_EMPTY, Body, GenerationFields, Opaque, refuse
from infrs.text.constraint import JSON_OBJECT, Constraint

_MAX_GRAMMAR = 1 << 14  # a grammar may hold schemas, and their compile time grows with the square of the length

# Alternatives of sequences of JSON's whitespace. Every text matches in one way only, so the check takes no time.
_WHITESPACE = re.compile(r"(?:(?:[ \t\n\r]|\\[tnr]|\[(?:[ \t\n\r]|\\[tnr])+\])(?:[*+?]|\{\d{1,2}(?:,\d{0,2})?\})?|\|)+")

# The fields of all APIs that can need a grammar, which can take a second to compile.
GRAMMAR_FIELDS = (
    "response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar", "json_schema",
    "tools", "functions", "text", "output_config", "format",
)  # fmt: skip

SchemaName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Schema = dict[str, Any] | bool
Choices = Annotated[list[Annotated[str, Field(min_length=1, max_length=4096)]], Field(min_length=1, max_length=1024)]
GrammarText = Annotated[str, Field(min_length=1, max_length=_MAX_GRAMMAR)]


class JsonSchema(Body):
    """`response_format.json_schema`. The server enforces the schema, `strict` or not.

    strict: whether a `format` that the grammar compiler lacks is an error.
    """

    name: SchemaName
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: Annotated[str, Field(max_length=4096)] | None = None
    strict: bool | None = None


class ResponseFormat(Body):
    """`response_format`: free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            refuse("response_format.json_schema", "required with type json_schema", "missing_required_parameter")
        if self.type != "json_schema" and self.json_schema is not None:
            refuse("response_format.json_schema", "goes with type json_schema, and with no other")
        return self


class StructuredOutputFields(Body):
    """The fields that constrain an answer's text; at most one of them may be given."""

    response_format: ResponseFormat | None = None
    guided_json: Annotated[Schema | str | None, OR_EMPTY] = None
    guided_regex: Annotated[GrammarText | None, OR_EMPTY] = None
    guided_choice: Annotated[Choices | None, OR_EMPTY] = None
    guided_grammar: Annotated[GrammarText | None, OR_EMPTY] = None
    grammar: Annotated[GrammarText | None, OR_EMPTY] = None
    guided_decoding_backend: Opaque | None = None
    guided_whitespace_pattern: Annotated[Annotated[str, Field(max_length=64)] | None, OR_EMPTY] = None
    json_schema: Schema | None = None

    @field_validator("guided_whitespace_pattern")
    @classmethod
    def _only_whitespace(cls, pattern: str | None) -> str | None:
        if pattern and not _WHITESPACE.fullmatch(pattern):
            refuse(
                "guided_whitespace_pattern",
                "it must be a regex of spaces, tabs and line breaks, such as [ \\n]{0,4}",
            )
        return pattern

    @model_validator(mode="after")
    def _one_constraint(self) -> Self:
        given = [constraint.param for constraint in self._constraints()]
        if len(given) > 1:
            refuse(given[1], f"only one constraint at a time; {given[0]} is another")
        return self

    @property
    def constraint(self) -> Constraint | None:
        """The constraint on the answer's text."""
        return next(iter(self._constraints()), None)

    def _constraints(self) -> list[Constraint]:
        found: list[Constraint] = []
        whitespace = self.guided_whitespace_pattern or ""
        asked = self.response_format
        if asked is not None and asked.type != "text":
            text, strict = JSON_OBJECT, True
            if asked.json_schema is not None:
                text, strict = json.dumps(asked.json_schema.schema_), bool(asked.json_schema.strict)
            found.append(Constraint("json_schema", text, "response_format", strict, whitespace=whitespace))
        for param, schema in (("guided_json", self.guided_json), ("json_schema", self.json_schema)):
            if schema is not None:
                text = schema if isinstance(schema, str) else json.dumps(schema)
                found.append(Constraint("json_schema", text, param, strict=False, whitespace=whitespace))
        if self.guided_regex is not None:
            found.append(Constraint("regex", self.guided_regex, "guided_regex"))
        if self.guided_choice is not None:
            found.append(Constraint("choice", json.dumps(self.guided_choice), "guided_choice"))
        for param, grammar in (("guided_grammar", self.guided_grammar), ("grammar", self.grammar)):
            if grammar is not None:
                found.append(Constraint("grammar", grammar, param))
        return found


class ConstrainedGenerationFields(GenerationFields, StructuredOutputFields):
    """Generation with an optional constraint on the text."""

    @property
    def constrained_by(self) -> str | None:
        """The field with the grammar of the answer."""
        return self.constraint.param if self.constraint else None

    @model_validator(mode="after")
    def _ends_where_its_grammar_does(self) -> Self:
        for field, given in (("ignore_eos", self.ignore_eos), ("min_tokens", self.min_tokens)):
            if given and self.constrained_by:
                refuse(field, f"not with {self.constrained_by}; its grammar ends the answer")
        return self
