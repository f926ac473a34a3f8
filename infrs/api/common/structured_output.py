"""The fields of structured output: OpenAI's `response_format`, vLLM's `guided_*` and llama.cpp's names."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from infrs.api.common.fields import EMPTY, OR_EMPTY, Body, Flag, GenerationFields, Opaque, Unset, Unsupported, refuse
from infrs.text.constraint import JSON_OBJECT, Constraint, ConstraintKind, to_json

_MAX_GRAMMAR = 1 << 14  # a grammar may hold schemas, and their compile time grows with the square of the length

# Alternatives of sequences of JSON's whitespace. Every text matches in one way only, so the check takes no time.
_WHITESPACE = re.compile(r"(?:(?:[ \t\n\r]|\\[tnr]|\[(?:[ \t\n\r]|\\[tnr])+\])(?:[*+?]|\{\d{1,2}(?:,\d{0,2})?\})?|\|)+")

# The fields of all APIs that can need a grammar, which can take a second to compile.
GRAMMAR_FIELDS = (
    "response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar", "json_schema",
    "structured_outputs", "regex", "ebnf", "tools", "functions", "text", "output_config", "output_format", "format",
)  # fmt: skip

SchemaName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Schema = dict[str, Any] | bool
Choices = Annotated[list[Annotated[str, Field(min_length=1, max_length=4096)]], Field(min_length=1, max_length=1024)]
GrammarText = Annotated[str, Field(min_length=1, max_length=_MAX_GRAMMAR)]


def _only_whitespace(pattern: str) -> str:
    if pattern and not _WHITESPACE.fullmatch(pattern):
        raise PydanticCustomError(
            "whitespace_pattern", "it must be a regex of spaces, tabs and line breaks, such as [ \\n]{0,4}"
        )
    return pattern


WhitespacePattern = Annotated[str, Field(max_length=64), AfterValidator(_only_whitespace)]


class JsonSchema(Body):
    """`response_format.json_schema`. The server enforces the schema, `strict` or not."""

    name: SchemaName | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: Annotated[str, Field(max_length=4096)] | None = None
    strict: bool | None = None


class ResponseFormat(Body):
    """`response_format`: free text, any JSON object, or JSON of a schema.

    schema: the schema without a name, as llama.cpp and Together take it, with either type of JSON.
    """

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> Self:
        if self.schema_ is not None and (self.type == "text" or self.json_schema is not None):
            refuse("response_format.schema", "not with type text or json_schema.schema; send one of them")
        if self.type == "json_schema" and self.json_schema is None and self.schema_ is None:
            refuse("response_format.json_schema", "required with type json_schema", "missing_required_parameter")
        if self.type != "json_schema" and self.json_schema is not None:
            refuse("response_format.json_schema", "goes with type json_schema, and with no other")
        return self


class StructuredOutputs(Body):
    """vLLM's `structured_outputs`: one constraint, by its kind."""

    json_: Annotated[Schema | str | None, Field(alias="json")] = None
    regex: GrammarText | None = None
    choice: Choices | None = None
    grammar: GrammarText | None = None
    json_object: bool | None = None
    structural_tag: Unsupported = None
    disable_fallback: Flag | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: Flag | None = None  # objects with properties are closed anyway
    whitespace_pattern: WhitespacePattern | None = None


class _Given(NamedTuple):
    """A field that constrains the text. value: text, or what its JSON is the text of."""

    kind: ConstraintKind
    param: str
    value: Any


class StructuredOutputFields(Body):
    """The fields that constrain an answer's text; at most one of them may be given."""

    response_format: ResponseFormat | None = None
    guided_json: Annotated[Schema | str | None, OR_EMPTY] = None
    guided_regex: Annotated[GrammarText | None, OR_EMPTY] = None
    guided_choice: Annotated[Choices | None, OR_EMPTY] = None
    guided_grammar: Annotated[GrammarText | None, OR_EMPTY] = None
    grammar: Annotated[GrammarText | None, OR_EMPTY] = None
    guided_decoding_backend: Opaque | None = None
    guided_whitespace_pattern: Annotated[WhitespacePattern | None, OR_EMPTY] = None
    json_schema: Schema | None = None
    structured_outputs: Annotated[StructuredOutputs | None, Unset(*EMPTY)] = None
    regex: Annotated[GrammarText | None, Unset(*EMPTY)] = None  # SGLang's names
    ebnf: Annotated[GrammarText | None, Unset(*EMPTY)] = None

    @model_validator(mode="after")
    def _one_constraint(self) -> Self:
        given = [field.param for field in self._given]
        if len(given) > 1:
            refuse(given[1], f"only one constraint at a time; {given[0]} is another")
        return self

    @property
    def constraint(self) -> Constraint | None:
        """The constraint on the answer's text. Each call writes the JSON of a schema."""
        given = next(iter(self._given), None)
        if given is None:
            return None
        text = given.value if isinstance(given.value, str) else to_json(given.value)
        if given.kind != "json_schema":
            return Constraint(given.kind, text, given.param)
        return Constraint(given.kind, text, given.param, whitespace=self.whitespace)

    @property
    def whitespace(self) -> str:
        """The pattern of whitespace in JSON; empty for the default."""
        asked = self.structured_outputs or StructuredOutputs()
        compact = " {0}" if asked.disable_any_whitespace else ""
        return self.guided_whitespace_pattern or asked.whitespace_pattern or compact

    @property
    def _given(self) -> list[_Given]:
        """The fields that constrain the text."""
        found: list[_Given] = []
        asked, outputs = self.response_format, self.structured_outputs or StructuredOutputs()
        if asked is not None and asked.type != "text":
            schema = JSON_OBJECT if asked.schema_ is None else asked.schema_
            if asked.json_schema is not None:
                schema = asked.json_schema.schema_
            found.append(_Given("json_schema", "response_format", schema))
        others: tuple[tuple[ConstraintKind, str, object], ...] = (
            ("json_schema", "guided_json", self.guided_json),
            ("json_schema", "json_schema", self.json_schema),
            ("json_schema", "structured_outputs.json", outputs.json_),
            ("json_schema", "structured_outputs.json_object", JSON_OBJECT if outputs.json_object else None),
            ("regex", "guided_regex", self.guided_regex),
            ("regex", "regex", self.regex),
            ("regex", "structured_outputs.regex", outputs.regex),
            ("choice", "guided_choice", self.guided_choice),
            ("choice", "structured_outputs.choice", outputs.choice),
            ("grammar", "guided_grammar", self.guided_grammar),
            ("grammar", "grammar", self.grammar),
            ("grammar", "ebnf", self.ebnf),
            ("grammar", "structured_outputs.grammar", outputs.grammar),
        )
        return found + [_Given(kind, param, value) for kind, param, value in others if value is not None]


class ConstrainedGenerationFields(GenerationFields, StructuredOutputFields):
    """Generation with an optional constraint on the text."""

    @property
    def constrained_by(self) -> str | None:
        """The field with the grammar of the answer."""
        return next((field.param for field in self._given), None)

    @model_validator(mode="after")
    def _ends_where_its_grammar_does(self) -> Self:
        for field, given in (("ignore_eos", self.ignore_eos), ("min_tokens", self.min_tokens)):
            if given and self.constrained_by:
                refuse(field, f"not with {self.constrained_by}; its grammar ends the answer")
        return self
