"""Settings: defaults < configuration file < INFRS_* environment variables < command-line flags.

Each layer is validated by itself before the layers are merged, so that an error can name the key, the
place it came from and what is allowed there. A file is read strictly ("3000" is not a port); the
environment and flags are text, which pydantic parses by each field's type.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from infrs.errors import ConfigError
from infrs.manifest import Dtype
from infrs.spelling import nearest

CONFIG_FILE = "config.json"
ENV_PREFIX = "INFRS_"
ENV_SEPARATOR = "__"
KEYS_VARIABLE = "INFRS_API_KEYS"  # read by server/auth.py alone: a key is no setting, which flags and /props would show

ChatFormat = Literal["auto", "simple"]
ToolFormatName = Literal["auto", "mistral", "hermes", "granite", "phi", "llama3", "gemma", "generic"]
GenerationConfig = Literal["auto", "none"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ServerSettings(_Section):
    """The HTTP side. Durations are in seconds."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=3000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    max_body_bytes: int = Field(default=4 << 20, ge=1024, le=1 << 30, description="Largest request body.")
    request_timeout: float = Field(
        default=600.0, gt=0, le=86400, description="Longest a request may take, queue included."
    )
    send_timeout: float = Field(
        default=60.0, gt=0, le=86400, description="A reader that takes nothing for this long is cut."
    )
    ping_interval: float = Field(
        default=10.0, gt=0, le=86400, description="A stream that is silent for this long gets a comment."
    )
    drain_timeout: float = Field(
        default=30.0, ge=0, le=86400, description="How long a stopping server lets requests finish."
    )
    header_timeout: float = Field(
        default=10.0, gt=0, le=86400, description="A request's head must arrive within this time of its first byte."
    )
    body_timeout: float = Field(
        default=60.0, gt=0, le=86400, description="A request's body must arrive within this time of its head."
    )
    queue_timeout: float = Field(default=120.0, gt=0, le=86400, description="Longest a request may wait for a slot.")
    stall_timeout: float = Field(
        default=120.0, gt=0, le=86400, description="An engine that makes no step for this long ends the process."
    )
    max_stored_responses: int = Field(
        default=1024, ge=0, le=1 << 20, description="Responses of /v1/responses that are kept; 0: none."
    )
    stored_responses_mb: int = Field(
        default=64, ge=0, le=1 << 20, description="Memory that they may take, in MiB; 0: none are kept."
    )
    max_connections: int = Field(default=1024, ge=1, le=1 << 20, description="Connections that may be open at once.")
    api_keys_file: str = Field(
        default="", max_length=4096, description="File of API keys, one a line; empty: those of INFRS_API_KEYS, if any."
    )
    allow_unauthenticated: bool = Field(
        default=False, description="Listen beyond this machine although no API key is set."
    )
    allowed_hosts: str = Field(
        default="",
        max_length=4096,
        description="Names that clients may call the server by, comma-separated; "
        "addresses and, on a loopback address, localhost always may.",
    )
    cors_origins: str = Field(
        default="", max_length=4096, description="Origins of web pages that may call it, comma-separated."
    )
    access_log: bool = Field(default=True, description="Log one line a request.")
    traces: bool = Field(default=False, description="Send OpenTelemetry traces, as the OTEL_ variables say.")
    log_level: LogLevel = Field(default="info", description="Least severity that is logged.")
    log_format: LogFormat = Field(default="text", description="Lines for people, or one JSON object a line.")


class ModelSettings(_Section):
    """Which bundle is served."""

    model_id: str = Field(
        default="TinyLlama/TinyLlama-1.1B-Chat-v1.0", min_length=1, max_length=256, description="Hub id of the model."
    )
    revision: str = Field(default="main", min_length=1, max_length=256, description="Branch, tag or commit.")
    dtype: Dtype = Field(default="float32", description="How the weights are stored.")
    cache_dir: Path = Field(default=Path("models_cache"), description="Where exported bundles lie.")
    chat_format: ChatFormat = Field(
        default="auto", description="auto: the model's chat template; simple: `role: content`."
    )
    tool_format: ToolFormatName = Field(
        default="auto", description="How the model writes tool calls; auto: as its chat template tells."
    )
    generation_config: GenerationConfig = Field(
        default="auto",
        description="Sampling where a request does not say; auto: as the model's generation_config.json has it; "
        "none: as OpenAI has it.",
    )


class ModelEntry(ModelSettings):
    """One of several models. Where it says nothing of the cache, `model.cache_dir` is meant."""

    model_id: str = Field(min_length=1, max_length=256, description="Hub id of the model.")


class EngineSettings(_Section):
    """The generation loop."""

    threads: int = Field(
        default=0, ge=0, le=1024, description="Compute threads; 0: one for each physical core, within the CPU quota."
    )
    kernels: Literal["auto", "precise", "avx2", "onnxruntime"] = Field(
        default="auto",
        description="`auto`: infrs's own kernels where they run; `precise`: they, rounding less where that costs time; "
        "`avx2`: they, without AVX-512; `onnxruntime`: never.",
    )
    max_num_seqs: int = Field(default=8, ge=1, le=1024, description="Sequences that run at once.")
    max_model_len: int = Field(
        default=0, ge=0, le=1 << 24, description="Longest prompt and answer in tokens; 0: automatic."
    )
    prefill_chunk: int = Field(
        default=128, ge=1, le=65536, description="Prompt tokens computed between two decode steps."
    )
    max_queue: int = Field(default=64, ge=0, le=1 << 20, description="Requests that may wait for a slot.")
    kv_budget_mb: int = Field(
        default=0, ge=0, le=1 << 24, description="Memory for keys and values in MiB; 0: automatic."
    )


def _entry(value: object) -> object:
    """An id alone is an entry too."""
    return {"model_id": value} if isinstance(value, str) else value


class Settings(_Section):
    """All settings of a server."""

    server: ServerSettings = ServerSettings()
    model: ModelSettings = ModelSettings()
    models: tuple[Annotated[ModelEntry, BeforeValidator(_entry)], ...] = Field(
        default=(),
        max_length=64,
        description="Models beside `model`, or instead of it if `model.model_id` is not set: ids, or objects with its "
        "keys. At most one of all is a chat model.",
    )
    engine: EngineSettings = EngineSettings()

    @property
    def all_models(self) -> tuple[ModelSettings, ...]:
        """Every model that is to be served, `model` first."""
        cache = {"cache_dir": self.model.cache_dir}
        entries = [
            entry if "cache_dir" in entry.model_fields_set else entry.model_copy(update=cache) for entry in self.models
        ]
        return (*([] if self.models and not self._names_model else [self.model]), *entries)

    @property
    def names_models(self) -> bool:
        """Whether any layer says which models are to be served."""
        return self._names_model or bool(self.models)

    @property
    def _names_model(self) -> bool:
        return "model_id" in self.model.model_fields_set

    def check_models(self) -> None:
        """Raise ConfigError for a model that is named twice, and for keys of a `model` that is not named."""
        ids = [model.model_id for model in self.all_models]
        twice = next((model_id for model_id in ids if ids.count(model_id) > 1), None)
        if twice is not None:
            raise ConfigError(f"models: {twice} is named twice; remove one of them", param="models")
        stray = sorted(self.model.model_fields_set - {"cache_dir"})
        if self.models and stray and not self._names_model:
            key = f"model.{stray[0]}"
            raise ConfigError(
                f"{key} is set, but of no model: set model.model_id too, or {stray[0]} in an entry of `models`",
                param=key,
            )


SECTIONS: dict[str, type[_Section]] = {"server": ServerSettings, "model": ModelSettings, "engine": EngineSettings}


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of settings: its values and how a dotted key is called there."""

    values: Mapping[str, Any] | bytes  # nested text values, or JSON
    origin: Callable[[str], str]


def load_settings(
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Settings:
    """Merge the layers.

    config: the file to read; None reads ./config.json if it is there. environ: None is os.environ.
    flags and defaults: text by dotted key (`server.port`); defaults lie below the file.
    Raises ConfigError, one line, for a file that cannot be read, an unknown key or a bad value.
    """
    layers = [_Layer(_nest(defaults or {}, "."), lambda key: f"the default of {key}")]
    if config is not None or Path(CONFIG_FILE).exists():
        path = config or Path(CONFIG_FILE)
        layers.append(_Layer(_read(path), lambda key: str(path)))
    layers.append(_environment(os.environ if environ is None else environ))
    layers.append(_Layer(_nest(flags or {}, "."), flag_name))
    merged: dict[str, Any] = {}
    for layer in layers:
        for section, values in _parse(layer).items():
            merged[section] = merged.get(section, {}) | values if isinstance(values, dict) else values
    settings = Settings.model_validate(merged)
    settings.check_models()
    return settings


def flag_name(key: str) -> str:
    """The command-line flag of a dotted key: `engine.max_queue` is `--max-queue`."""
    return "--" + key.rpartition(".")[2].replace("_", "-")


def _environment(environ: Mapping[str, str]) -> _Layer:
    names = sorted(name for name in environ if name.upper().startswith(ENV_PREFIX) and name.upper() != KEYS_VARIABLE)

    def origin(key: str) -> str:
        stem = ENV_PREFIX + key.replace(".", ENV_SEPARATOR).upper()
        return next(name for name in names if name.upper().startswith(stem))

    return _Layer(_nest({name[len(ENV_PREFIX) :].lower(): environ[name] for name in names}, ENV_SEPARATOR), origin)


def _nest(values: Mapping[str, str], separator: str) -> dict[str, Any]:
    """`{"server.port": "1"}` as `{"server": {"port": "1"}}`; a bare key stays at the top, to be refused there."""
    nested: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        section, found, field = key.partition(separator)
        if found and isinstance(nested.get(section, {}), dict):
            nested.setdefault(section, {})[field] = value
        else:
            nested[section] = value
    return nested


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _parse(layer: _Layer) -> dict[str, Any]:
    """The values of a layer that it sets."""
    values, models = layer.values, None
    if not isinstance(values, bytes) and isinstance(values.get("models"), str):
        models = _models_as_json(values["models"])
        values = {key: value for key, value in values.items() if key != "models"}
    try:
        parsed = (
            Settings.model_validate_json(values)
            if isinstance(values, bytes)
            else Settings.model_validate_strings(values)
        ).model_dump(exclude_unset=True)
        if models is not None:
            parsed |= Settings.model_validate_json(models).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
    else:
        return parsed
    key = ".".join(str(part) for part in first["loc"]) or ("models" if first["input"] == models else "")
    origin = layer.origin("models" if key.startswith("models.") else key)  # text gives the list as one value
    if not key:
        raise ConfigError(f"{origin}: {first['msg']}")
    if first["type"] == "extra_forbidden":
        meant = _meant(key)
        hint = f" (did you mean {meant}?)" if meant else ""
        raise ConfigError(f"{key} ({origin}): unknown key{hint}; allowed: {_known(key)}", param=key)
    if first["type"] == "missing":
        raise ConfigError(f"{key} ({origin}): is required; allowed: {_allowed(key)}", param=key)
    if key in SECTIONS:
        raise ConfigError(f"{key} ({origin}): a section, not a value; allowed: {_known(key + '.')}", param=key)
    value = repr(first["input"])
    shown = value if len(value) <= 80 else value[:77] + "..."
    raise ConfigError(f"{key} ({origin}): {shown} is not allowed; allowed: {_allowed(key)}", param=key)


def _models_as_json(text: str) -> str:
    """`models` as the environment and flags write it: ids with commas between them, or JSON as the file has it."""
    if text.lstrip().startswith("["):
        return f'{{"models": {text}}}'
    return json.dumps({"models": [part.strip() for part in text.split(",") if part.strip()]})


def _meant(key: str) -> str | None:
    """The key that an unknown one is most like, as a whole or, where its section is wrong or missing, by its name."""
    place, _, name = key.rpartition(".")
    if key.startswith("models."):
        field = nearest(name, ModelEntry.model_fields)
        return field and f"{place}.{field}"
    dotted = {f"{section}.{field}": field for section, kind in SECTIONS.items() for field in kind.model_fields}
    field = nearest(name, dotted.values())
    by_name = next((whole for whole, last in dotted.items() if last == field), None)
    return nearest(key, [*Settings.model_fields, *dotted]) or by_name


def _known(key: str) -> str:
    if key.startswith("models."):
        return ", ".join(ModelEntry.model_fields)
    section = SECTIONS.get(key.partition(".")[0]) if "." in key else None
    if section is None:
        return ", ".join(Settings.model_fields)
    return ", ".join(f"{key.partition('.')[0]}.{name}" for name in section.model_fields)


def _allowed(key: str) -> str:
    """What a key takes, in words."""
    section, _, name = key.partition(".")
    kind: type[_Section] = SECTIONS.get(section, ModelEntry)
    schema = kind.model_json_schema()["properties"].get(name.rpartition(".")[2])
    return "at most 64 model ids, or objects with the keys of `model`" if schema is None else _in_words(schema)


def _in_words(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows."""
    if "enum" in schema:
        return ", ".join(schema["enum"])
    match schema["type"]:
        case "integer":
            return f"a whole number from {schema['minimum']} to {schema['maximum']}"
        case "number":
            lowest = f"from {schema['minimum']:g}" if "minimum" in schema else f"above {schema['exclusiveMinimum']:g}"
            return f"a number {lowest} to {schema['maximum']:g}"
        case "boolean":
            return "true, false"
        case _:
            if "maxLength" in schema:
                return f"text of {schema.get('minLength', 0)} to {schema['maxLength']} characters"
            return "non-empty text"
