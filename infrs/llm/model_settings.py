"""The settings of a model in a Python program, and the bundle that it opens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infrs.bundle.manifest import MANIFEST_FILE, read_manifest
from infrs.cli.export_missing import export_draft, find_or_export
from infrs.config.settings import EngineSettings, ModelSettings
from infrs.errors import ConfigError, ExportError
from infrs.models.draft_bundle import check_drafts
from infrs.models.load import check_kinds, load_model
from infrs.models.registry import OpenModel
from infrs.spelling import nearest


def to_settings(
    model: str | Path, dtype: str, revision: str, cache_dir: str | Path | None, others: Mapping[str, Any]
) -> tuple[ModelSettings, EngineSettings]:
    """Return the settings of a model. others: the keys of `model` and `engine` by name.

    Raises ConfigError for an unknown key, an invalid value, and a draft model without speculation.
    """
    given = {"model_id": str(model), "dtype": dtype, "revision": revision, **others}
    if cache_dir is not None:
        given["cache_dir"] = Path(cache_dir)
    known = [*ModelSettings.model_fields, *EngineSettings.model_fields]
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        meant = nearest(unknown, known)
        raise ConfigError(f"{unknown} is no setting" + (f"; did you mean {meant}?" if meant else ""), param=unknown)
    try:
        settings = ModelSettings.model_validate(
            {name: given[name] for name in given if name in ModelSettings.model_fields}
        )
        engine = EngineSettings.model_validate(
            {name: given[name] for name in given if name in EngineSettings.model_fields}
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0])
        raise ConfigError(f"{name} is {fault['input']!a}, but {fault['msg']}", param=name) from None
    check_drafts([settings], engine)
    return settings, engine


def resolve(model: ModelSettings) -> tuple[str, OpenModel]:
    """Return the id of a model and the function that opens it. The model is exported first if no bundle is cached.

    Raises as `find_or_export`, and ExportError instead of an exit.
    """
    path = Path(model.model_id)
    try:
        bundle = path if (path / MANIFEST_FILE).is_file() else find_or_export(model)
        export_draft(model)
    except SystemExit as error:
        raise ExportError(f"the export of {model.model_id} ended with code {error.code}; see its messages") from None
    manifest = read_manifest(bundle)
    check_kinds([model], [manifest])
    return manifest.source.model_id, partial(load_model, bundle, model)
