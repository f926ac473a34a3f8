"""Base of the request bodies: strict validation, refusals by name, and the fields that control generation.

No type is coerced, and each field is one of four kinds:

- honoured: it decides the answer;
- a hint (`HINT`): checked, but it cannot change the text of an answer, so it is accepted and changes nothing. See
  `infrs.api.common.ignored`, which names it to the client;
- `Neutral`: not supported, so only the values that change nothing are accepted, such as `best_of: 1`;
- unknown: refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, partial
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from infrs.api.common.conversation import GenerationOptions
from infrs.api.common.fail_fast import bound_errors
from infrs.api.common.validation_errors import Place, request_error

MAX_CHOICES = 128
MAX_FIELDS = 256  # of an object, unknown ones included
MAX_LOGIT_BIAS = 1024
MAX_MESSAGES = 2048  # of a conversation
MAX_STOPS = 64
_SAMPLING = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
_TOKEN_KEY = re.compile(r"0|[1-9][0-9]{0,9}")
# OpenAI's opaque ids (user and the like) never change an answer; here they must only be short and printable.
_OPAQUE = r"^[^\x00-\x1f\x7f]*$"


class Body(BaseModel):
    """A JSON object of a request. An unknown field is accepted at null, which means "not given"."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the core schema of a body. See `bound_errors`."""
        schema = handler(source)
        bound_errors(handler.resolve_ref_schema(schema))
        return schema

    def given(self, *names: str) -> dict[str, Any]:
        """Return the fields among `names` that are not None, by name."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON schema of a body. Its unknown fields are null."""
        reference = handler(schema)
        described = handler.resolve_ref_schema(reference)
        if described.get("additionalProperties") is False:
            described["additionalProperties"] = {"type": "null"}
        return reference

    @model_validator(mode="before")
    @classmethod
    def _drop_unknown_nulls(cls, value: object) -> object:
        """Drop unknown fields at null. Refuse a body of many early: pydantic would spend a second on their errors."""
        if not isinstance(value, dict):
            return value
        known = _by_name(cls)
        unknown = value.keys() - known.keys()
        if len(value) > MAX_FIELDS:
            first = next(name for name in value if name in unknown)
            refuse_part(first, f"not a parameter, as most of {len(value)} here; remove it", "unknown_parameter")
        if any(value[name] is None for name in unknown):
            return {name: part for name, part in value.items() if part is not None or name not in unknown}
        return value


class Neutral:
    """Annotates an unsupported field. It accepts only null and `values`, which have no effect."""

    def __init__(self, *values: object) -> None:
        self.values = (None, *values)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the core schema of the field."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON schema of the field: the accepted values."""
        return {"enum": list(self.values), "x-refused": True}

    def _check(self, value: object) -> None:
        if not any(_same(value, accepted) for accepted in self.values):
            raise PydanticCustomError("unsupported_parameter", "not supported by this server")


def _same(value: object, accepted: object) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    return value == accepted and isinstance(value, bool) is isinstance(accepted, bool)


EMPTY: tuple[object, ...] = (False, 0, "", [], {})
Unsupported = Annotated[Any, Neutral(*EMPTY)]


def refuse(param: str, message: str, code: str = "invalid_value") -> NoReturn:
    """Refuse a body, inside a validator, for its field `param`."""
    raise PydanticCustomError("inconsistent", "{message}", {"param": param, "message": message, "code": code})


def refuse_part(field: str, message: str, code: str = "invalid_value") -> NoReturn:
    """Refuse a part of a body, inside its validator, for a field of the part."""
    raise PydanticCustomError("part", "{message}", {"field": field, "message": message, "code": code})


T = TypeVar("T", bound=Body)


def parse_body(kind: type[T], payload: dict[str, Any]) -> T:
    """Validate a body. Raises RequestError that names the first invalid field, such as `messages[0].role`."""
    try:
        return kind.model_validate(payload)
    except ValidationError as error:
        raise request_error(error, payload, partial(_honoured, kind)) from None


def _honoured(kind: type[Body], place: Place) -> list[str]:
    """Return the honoured fields of the object at a place in a body; none if its type is unknown."""
    kinds = {"": kind}
    for part in place:
        if isinstance(part, int):
            continue
        if part in kinds:
            kinds = {part: kinds[part]}
        else:
            fields = (_by_name(inner).get(part) for inner in kinds.values())
            kinds = dict(found for field in fields if field for found in _bodies(field.annotation))
    return [
        name
        for inner in kinds.values()
        for name, field in _by_name(inner).items()
        if not any(isinstance(part, Neutral) for part in field.metadata)
    ]


@cache
def _by_name(kind: type[Body]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def _bodies(annotation: object) -> Iterator[tuple[str, type[Body]]]:
    """Yield the bodies that a field may hold, each by pydantic's name: its tag in a union, or its class name."""
    if isinstance(annotation, type) and issubclass(annotation, Body):
        yield annotation.__name__, annotation
    parts = get_args(annotation)
    tag = next((str(part.tag) for part in parts if isinstance(part, Tag)), None)
    for part in parts:
        for name, kind in _bodies(part):
            yield tag or name, kind


class Unset:
    """Annotates an optional field. It is null at `values` too."""

    def __init__(self, *values: object) -> None:
        self.values = values

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the core schema of the field."""
        return core_schema.no_info_before_validator_function(self._null, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON schema of the field, with the values as an alternative."""
        return {"anyOf": [*handler(schema)["anyOf"], {"enum": [*self.values], "x-unset": True}]}

    def _null(self, value: object) -> object:
        return None if any(_same(value, unset) for unset in self.values) else value


OR_EMPTY = Unset("", [])


def _as_list(value: object) -> object:
    if isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, list):
        raise PydanticCustomError("string_or_array_type", "expected a string or an array of strings")
    return value


def _token_keys(biases: dict[str, float]) -> dict[str, float]:
    for key in biases:
        if not _TOKEN_KEY.fullmatch(key):
            refuse("logit_bias", f"{ascii(key)[:40]} is not a token id", "invalid_value")
    return biases


Model = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
TokenCount = Annotated[int, Field(ge=1, lt=1 << 31)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]


def hint(*neutral: str | int) -> Any:  # noqa: ANN401  # as pydantic's Field
    """Return the annotation of a hint that says nothing at the values `neutral`."""
    return Field(json_schema_extra={"x-hint": True, "x-neutral": [*neutral]})


HINT = hint()
AnyHint = Annotated[Any, HINT]
Flag = Annotated[bool, HINT]
CacheControl = Annotated[dict[str, Any], HINT]  # a breakpoint of the prompt cache; the server reuses every prefix
Opaque = Annotated[str, Field(max_length=512, pattern=_OPAQUE), HINT]
ServiceTier = Annotated[
    Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast", "standard_only"],
    hint("auto", "default", "standard_only"),
]
Verbosity = Annotated[Literal["low", "medium", "high"], HINT]
StopString = Annotated[str, Field(min_length=1, max_length=1024)]
StopStrings = Annotated[list[StopString], Field(max_length=MAX_STOPS)]
_OneStop = Annotated[str, Field(max_length=1024)]  # empty: none
Stop = Annotated[StopStrings, BeforeValidator(_as_list, json_schema_input_type=_OneStop | StopStrings)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
LogitBias = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_LOGIT_BIAS), AfterValidator(_token_keys)
]


class StreamOptions(Body):
    """`stream_options` of a streamed request."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: Flag | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.continuous_usage_stats and not self.include_usage:
            refuse("stream_options.continuous_usage_stats", "only allowed with `include_usage: true`")
        return self


class GenerationFields(Body):
    """The fields that control generation, for chats and for plain prompts. None is "not given"."""

    model: Model
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Fraction | None = None  # 0 keeps the one most likely token
    top_k: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None
    min_p: Fraction | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None  # float32 overflows far beyond these
    logit_bias: LogitBias | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: TokenCount | None = None
    min_tokens: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    stop: Stop | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    ignore_eos: bool | None = None

    @model_validator(mode="after")
    def _stream_options_of_a_stream(self) -> Self:
        if (
            self.stream_options
            and any(self.stream_options.given(*StreamOptions.model_fields).values())
            and not self.stream
        ):
            refuse("stream_options", "only allowed with `stream: true`")
        return self

    @property
    def num_choices(self) -> int:
        """Answers per prompt."""
        return self.n or 1

    @property
    def max_output_tokens(self) -> int | None:
        """Most tokens of an answer; None is the end of the context."""
        return self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to show with each token; None is no log-probabilities."""
        return None

    @property
    def options(self) -> GenerationOptions:
        """The same in neutral form."""
        shown = self.stream_options or StreamOptions()
        return GenerationOptions(
            sampling=self._sampling,
            max_tokens=self.max_output_tokens,
            min_tokens=self.min_tokens or 0,
            stop=tuple(self.stop or ()),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=bool(self.ignore_eos),
            num_choices=self.num_choices,
            num_logprobs=self.num_logprobs,
            stream=bool(self.stream),
            include_usage=bool(shown.include_usage),
            usage_in_every_chunk=bool(shown.continuous_usage_stats),
        )

    @property
    def _sampling(self) -> dict[str, Any]:
        """The fields of SamplingParams that are given. A negative `top_k` is off; a seed is taken modulo 2^64."""
        given = self.given(*_SAMPLING)
        if self.top_k is not None:
            given["top_k"] = max(self.top_k, 0)
        if self.seed is not None:
            given["seed"] = self.seed % (1 << 64)
        if self.logit_bias is not None:
            given["logit_bias"] = tuple((int(token_id), bias) for token_id, bias in self.logit_bias.items())
        return given
