"""Which models are served: the only one in the cache if none is named, each under the id of its bundle."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from infrs.bundle.manifest import AnyManifest, Dtype, manifests
from infrs.config.settings import ModelSettings, Settings
from infrs.errors import ConfigError, ModelNotNamedError

AnyModel = TypeVar("AnyModel", bound=ModelSettings)
_Name = tuple[str, str, Dtype]  # model id, revision, dtype

logger = logging.getLogger("infrs.cli.choose_model")


def of_the_cache(settings: Settings) -> Settings:
    """Return the settings with the only model that the cache holds, if no layer names a model.

    The default model is preferred if the cache holds it. A dtype and a revision that are set restrict the choice.
    Raises ModelNotNamedError if there is none, or several.
    """
    model = settings.model
    if settings.names_models or (model.cache_dir.exists() and not model.cache_dir.is_dir()):
        return settings
    held = list(manifests(model.cache_dir))
    fitting = [manifest for manifest in held if _fits(model, manifest)]
    models = {_name(manifest)[:2] for manifest in fitting}
    if (model.model_id, model.revision) in models:
        return settings
    if len(models) != 1:
        commands = [_to_serve(model, name) for name in sorted({*map(_name, fitting or held)})] or _to_begin(model)
        which = "".join(f" {word} {getattr(model, field)}" for field, word in _asked(model))
        noun = "models" if models else "model"
        raise ModelNotNamedError(
            f"no model is named, and {model.cache_dir} holds {len(models) or 'no'} {noun}{which}; run one of these:",
            commands=tuple(map(shlex.join, commands)),
        )
    [(model_id, revision)] = models
    logger.info("no model is named; serving %s, the only one in %s", model_id, model.cache_dir)
    named = {"model_id": model_id, "revision": revision}
    return settings.model_copy(update={"model": model.model_copy(update=named)})


def of_bundle(settings: Settings, manifest: AnyManifest) -> Settings:
    """Return the settings with `model` as a bundle's manifest has it."""
    return settings.model_copy(update={"model": _as_exported(settings.model, manifest)})


def as_served(settings: Settings, served: Sequence[AnyManifest]) -> Settings:
    """Return the settings with each model as its bundle has it: its served id, and its dtype instead of `auto`.

    served: the manifests of `settings.all_models`.
    Raises ConfigError if two models have one id, as folders of the same name have.
    """
    ids = [manifest.source.model_id for manifest in served]
    twice = next((model_id for model_id in ids if ids.count(model_id) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"two models are served as {twice}; export one of them with infrs-export --model-id", param="models"
        )
    models = list(map(_as_exported, settings.all_models, served))
    beside = len(models) - len(settings.models)  # 1 if `model` is served too
    model = models[0] if beside else settings.model
    return settings.model_copy(update={"model": model, "models": tuple(models[beside:])})


def _as_exported(model: AnyModel, manifest: AnyManifest) -> AnyModel:
    source = manifest.source
    named: dict[str, Any] = {"model_id": source.model_id, "revision": source.revision, "dtype": manifest.dtype}
    return model.model_copy(update=named)


def _name(manifest: AnyManifest) -> _Name:
    return manifest.source.model_id, manifest.source.revision, manifest.dtype


def _asked(model: ModelSettings) -> Iterable[tuple[str, str]]:
    """Return the set fields that distinguish bundles, each with the word before its value."""
    is_asked = {"dtype": model.dtype != "auto", "revision": "revision" in model.model_fields_set}
    return [pair for pair in (("dtype", "in"), ("revision", "at revision")) if is_asked[pair[0]]]


def _fits(model: ModelSettings, manifest: AnyManifest) -> bool:
    has = {"dtype": (manifest.dtype,), "revision": (manifest.source.revision, manifest.source.commit)}
    return all(getattr(model, field) in has[field] for field, _ in _asked(model))


def _to_serve(model: ModelSettings, name: _Name) -> list[str]:
    model_id, revision, dtype = name
    of_revision = [] if revision == "main" else ["--revision", revision]
    return ["infrs-serve", model_id, "--dtype", dtype, *of_revision, *_place(model)]


def _to_begin(model: ModelSettings) -> list[list[str]]:
    """The demo, and a model of the Hub."""
    options = [*([] if model.dtype == "auto" else ["--dtype", model.dtype]), *_place(model)]
    return [["infrs-serve", "--demo", *options], ["infrs-serve", model.model_id, *options]]


def _place(model: ModelSettings) -> list[str]:
    default = ModelSettings.model_fields["cache_dir"].default
    return [] if model.cache_dir == default else ["--cache-dir", str(model.cache_dir)]
