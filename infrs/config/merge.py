"""Merge the layers of settings: defaults < configuration file < INFRS_* environment variables < flags.

Each layer is validated before the merge, so that an error can name the key, its origin and the allowed values. A file
is read strictly ("3000" is not a port). The environment and flags are text, which pydantic parses by each field's type.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from infrs.config.other_names import OLD_KERNELS, OTHER_DTYPES, OTHER_FLAGS
from infrs.config.settings import KEYS_VARIABLE, SECTIONS, ModelEntry, Section, Settings
from infrs.errors import ConfigError
from infrs.spelling import nearest

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
ENV_PREFIX = "INFRS_"
ENV_SEPARATOR = "__"


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of settings.

    values: nested text values, or JSON. origin: returns the place of a dotted key, for errors.
    spell: returns a dotted key in the spelling of this source.
    """

    values: Mapping[str, Any] | bytes
    origin: Callable[[str], str]
    spell: Callable[[str], str] = str


def load_settings(
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Settings:
    """Merge the layers and return the settings.

    config: the file to read; None: ./config.json if it exists. environ: None: os.environ.
    flags: text by dotted key (`server.port`).
    Raises ConfigError, one line, for an unreadable file, an unknown key or a bad value.
    """
    layers = []
    if config is not None or Path(CONFIG_FILE).exists():
        path = config or Path(CONFIG_FILE)
        content = _read(path)
        if config is not None or not _describes_a_model(content):
            layers.append(_Layer(content, lambda key: str(path)))
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
    """Return the command-line flag of a dotted key: `--max-queue` for `engine.max_queue`."""
    return "--" + key.rpartition(".")[2].replace("_", "-")


def _environment(environ: Mapping[str, str]) -> _Layer:
    names = sorted(name for name in environ if name.upper().startswith(ENV_PREFIX) and name.upper() != KEYS_VARIABLE)

    def origin(key: str) -> str:
        return next(name for name in names if name.upper().startswith(_variable(key)))

    values = _nest({name[len(ENV_PREFIX) :].lower(): environ[name] for name in names}, ENV_SEPARATOR)
    return _Layer(values, origin, _variable)


def _variable(key: str) -> str:
    """Return the environment variable of a dotted key: `INFRS_ENGINE__MAX_QUEUE` for `engine.max_queue`."""
    return ENV_PREFIX + key.replace(".", ENV_SEPARATOR).upper()


def _nest(values: Mapping[str, str], separator: str) -> dict[str, Any]:
    """Convert `{"server.port": "1"}` to `{"server": {"port": "1"}}`. A key without a section stays at the top."""
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


def _describes_a_model(content: bytes) -> bool:
    """Return whether a ./config.json is that of a Hugging Face model, because the server was started in its folder."""
    try:
        return "model_type" in TypeAdapter(dict[str, Any]).validate_json(content)
    except ValidationError:
        return False


def _parse(layer: _Layer) -> dict[str, Any]:
    """Return the values that a layer sets. Raises ConfigError."""
    values, models = _with_new_names(layer), None
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
        raise _refusal(layer, error.errors()[0], models) from None
    return parsed


def _with_new_names(layer: _Layer) -> Mapping[str, Any] | bytes:
    """Return a layer's values with an old value of `engine.kernels` replaced, and log a note that names its setting."""
    try:
        tree = from_json(layer.values) if isinstance(layer.values, bytes) else layer.values
        engine = dict(tree["engine"])
        name, value = OLD_KERNELS[engine["kernels"]]
    except (KeyError, TypeError, ValueError):  # no such value, or an invalid layer, which validation reports
        return layer.values
    origin = layer.origin("engine.kernels")
    logger.warning("engine.kernels (%s): %s is now engine.%s %s", origin, engine["kernels"], name, value)
    renamed = {**tree, "engine": {name: value, **engine, "kernels": "auto"}}
    return to_json(renamed) if isinstance(layer.values, bytes) else renamed


def _refusal(layer: _Layer, first: ErrorDetails, models: str | None) -> ConfigError:
    """Return the error for a layer's first fault. models: the text of `models`, if a text layer sets it."""
    key = ".".join(str(part) for part in first["loc"]) or ("models" if first["input"] == models else "")
    origin = layer.origin("models" if key.startswith("models.") else key)  # text gives the list as one value
    if not key:
        return ConfigError(f"{origin}: {first['msg']}")
    if first["type"] == "extra_forbidden":
        meant = _meant(key)
        hint = f" (did you mean {layer.spell(meant) if '.' in meant else meant}?)" if meant else ""
        return ConfigError(f"{key} ({origin}): unknown key{hint}; allowed: {_known(key)}", param=key)
    if first["type"] == "missing":
        return ConfigError(f"{key} ({origin}): is required; allowed: {_allowed(key)}", param=key)
    if key in SECTIONS:
        names = ", ".join(layer.spell(f"{key}.{name}") for name in SECTIONS[key].model_fields)
        return ConfigError(f"{key} ({origin}) is a section, not a value; set one of {names}", param=key)
    value = repr(first["input"])
    shown = value if len(value) <= 80 else value[:77] + "..."
    dtype = OTHER_DTYPES.get(str(first["input"]).lower()) if key.endswith(".dtype") else None
    hint = f" (did you mean {dtype}?)" if dtype else ""
    return ConfigError(f"{key} ({origin}): {shown} is not allowed{hint}; allowed: {_allowed(key)}", param=key)


def _models_as_json(text: str) -> str:
    """Convert the text of `models`, from the environment or a flag, to JSON. It is JSON or comma-separated ids."""
    if text.lstrip().startswith("["):
        return f'{{"models": {text}}}'
    return json.dumps({"models": [part.strip() for part in text.split(",") if part.strip()]})


def _meant(key: str) -> str | None:
    """Return the key that an unknown one most likely means, or None.

    The last part decides: a section such as `server.` would make every two of its keys alike. A part that is a key of
    another section, or that another server uses, counts before a similar one.
    """
    place, _, name = key.rpartition(".")
    if key.startswith("models."):
        field = nearest(name, ModelEntry.model_fields)
        return field and f"{place}.{field}"
    dotted = {f"{section}.{field}": field for section, kind in SECTIONS.items() for field in kind.model_fields}
    same_section = [field for whole, field in dotted.items() if whole.startswith(f"{place}.")]
    flag = OTHER_FLAGS.get("--" + name.replace("_", "-"), "--" + name)
    exact = flag.removeprefix("--no-").removeprefix("--").replace("-", "_")
    field = exact if exact in dotted.values() else _similar(name, same_section) or _similar(name, dotted.values())
    by_name = next((whole for whole, last in dotted.items() if last == field), None)
    return by_name if place else nearest(key, [*Settings.model_fields, *dotted]) or by_name


def _similar(name: str, fields: Iterable[str]) -> str | None:
    """Return the most similar field, else the first one that `name` abbreviates."""
    fields = [*fields]
    return nearest(name, fields) or next((field for field in fields if name and field.startswith(name)), None)


def _known(key: str) -> str:
    if key.startswith("models."):
        return ", ".join(ModelEntry.model_fields)
    section = SECTIONS.get(key.partition(".")[0]) if "." in key else None
    if section is None:
        return ", ".join(Settings.model_fields)
    return ", ".join(f"{key.partition('.')[0]}.{name}" for name in section.model_fields)


def _allowed(key: str) -> str:
    """Return a description of the values that a key allows."""
    section, _, name = key.partition(".")
    kind: type[Section] = SECTIONS.get(section, ModelEntry)
    schema = kind.model_json_schema()["properties"].get(name.rpartition(".")[2])
    return "at most 64 model ids, or objects with the keys of `model`" if schema is None else _in_words(schema)


def _in_words(schema: dict[str, Any]) -> str:
    """Return a description of the values that a JSON schema allows."""
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
