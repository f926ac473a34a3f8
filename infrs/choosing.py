"""Which model is served where none is named: the only one that the cache holds."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable
from typing import Any

from infrs.config import ModelSettings, Settings
from infrs.errors import ModelNotNamedError
from infrs.manifest import AnyManifest, Dtype, manifests

_Name = tuple[str, str, Dtype]  # model id, revision, dtype

logger = logging.getLogger("infrs.choosing")


def of_the_cache(settings: Settings) -> Settings:
    """The settings; where no layer of them names a model and the default is not in the cache, those of the only one.

    A dtype and a revision that are set are what the one to serve must have.
    Raises ModelNotNamedError if there is none, or several.
    """
    model = settings.model
    if settings.names_models or (model.cache_dir.exists() and not model.cache_dir.is_dir()):
        return settings
    held = {_name(manifest): manifest for manifest in manifests(model.cache_dir)}
    fitting = {name: manifest for name, manifest in held.items() if _fits(model, manifest)}
    if (model.model_id, model.revision, model.dtype) in held:
        return settings
    if len(fitting) != 1:
        commands = [_to_serve(model, name) for name in sorted(fitting or held)] or _to_begin(model)
        which = "".join(f" {word} {getattr(model, field)}" for field, word in _asked(model))
        raise ModelNotNamedError(
            f"no model is named, and {model.cache_dir} holds {len(fitting) or 'none'}{which}; run one of these:",
            commands=tuple(map(shlex.join, commands)),
        )
    (manifest,) = fitting.values()
    told = model.cache_dir, manifest.source.model_id, manifest.dtype
    logger.info("no model is named; serving the one that %s holds: %s in %s", *told)
    return of_bundle(settings, manifest)


def of_bundle(settings: Settings, manifest: AnyManifest) -> Settings:
    """The settings as a bundle that is to be served makes them."""
    source = manifest.source
    named: dict[str, Any] = {"model_id": source.model_id, "revision": source.revision, "dtype": manifest.dtype}
    return settings.model_copy(update={"model": settings.model.model_copy(update=named)})


def _name(manifest: AnyManifest) -> _Name:
    return manifest.source.model_id, manifest.source.revision, manifest.dtype


def _asked(model: ModelSettings) -> Iterable[tuple[str, str]]:
    """The fields that tell bundles apart and are set, each with the word that stands before its value."""
    return [pair for pair in (("dtype", "in"), ("revision", "at revision")) if pair[0] in model.model_fields_set]


def _fits(model: ModelSettings, manifest: AnyManifest) -> bool:
    has = {"dtype": (manifest.dtype,), "revision": (manifest.source.revision, manifest.source.commit)}
    return all(getattr(model, field) in has[field] for field, _ in _asked(model))


def _to_serve(model: ModelSettings, name: _Name) -> list[str]:
    model_id, revision, dtype = name
    of_revision = [] if revision == "main" else ["--revision", revision]
    return ["infrs-serve", "--model-id", model_id, "--dtype", dtype, *of_revision, *_place("--cache-dir", model)]


def _to_begin(model: ModelSettings) -> list[list[str]]:
    """The demo, and a model of the Hub."""
    dtype = ["--dtype", model.dtype if "dtype" in model.model_fields_set else "int8"]
    return [
        ["infrs-serve", "--demo", *dtype, *_place("--cache-dir", model)],
        ["infrs-export", model.model_id, *dtype, *_place("--output", model)],
    ]


def _place(flag: str, model: ModelSettings) -> list[str]:
    default = ModelSettings.model_fields["cache_dir"].default
    return [] if model.cache_dir == default else [flag, str(model.cache_dir)]
