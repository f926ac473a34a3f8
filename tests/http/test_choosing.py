"""The model that is served when the settings name none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_encoder import MANIFEST as EMBEDDING
from fake_server import MANIFEST

from infrs.bundle.manifest import AnyManifest, Dtype, Source, find_bundle, slug
from infrs.cli.choose_model import as_served, of_the_cache
from infrs.config.merge import load_settings
from infrs.config.settings import ModelSettings, Settings
from infrs.errors import ConfigError, ModelNotNamedError

DEFAULT = ModelSettings().model_id


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(
    model_id: str,
    dtype: Dtype,
    *,
    revision: str = "main",
    key: str = "0",
    cache: str = "models_cache",
    like: AnyManifest = MANIFEST,
) -> Path:
    source = Source(kind="hub", model_id=model_id, revision=revision, commit="c" * 40)
    bundle = Path(cache) / slug(model_id) / f"{dtype}-{key}"
    bundle.mkdir(parents=True)
    manifest = like.model_copy(update={"source": source, "dtype": dtype})
    (bundle / "manifest.json").write_text(manifest.model_dump_json())
    return bundle


def chosen(environ: dict[str, str] | None = None, **flags: str) -> Settings:
    settings = load_settings(environ=environ or {}, flags={f"model.{name}": value for name, value in flags.items()})
    return of_the_cache(settings)


def refusal(**flags: str) -> tuple[str, tuple[str, ...]]:
    with pytest.raises(ModelNotNamedError) as caught:
        chosen(**flags)
    return str(caught.value), caught.value.commands


@pytest.mark.parametrize("like", [MANIFEST, EMBEDDING], ids=["chat", "embedding"])
def test_the_only_cached_model_is_served_and_logged(like: AnyManifest, caplog: pytest.LogCaptureFixture) -> None:
    """In any dtypes: `auto` chooses one later."""
    put("org/name", "int4", revision="v1", like=like)
    put("org/name", "int8", revision="v1", like=like)
    bundle = put("org/name", "int8", revision="v1", key="1", like=like)  # the same, exported again
    with caplog.at_level("INFO"):
        model = chosen(chat_format="simple").model
    assert (model.model_id, model.revision, model.dtype, model.chat_format) == ("org/name", "v1", "auto", "simple")
    assert find_bundle(model.cache_dir, model.model_id, model.revision, model.dtype) == bundle
    assert caplog.messages == ["no model is named; serving org/name, the only one in models_cache"]


def test_settings_without_a_model_serve_the_cached_one(caplog: pytest.LogCaptureFixture) -> None:
    put("org/name", "int8", cache="there")
    Path("config.json").write_text(json.dumps({"server": {"port": 1}, "model": {"cache_dir": "there"}}))
    settings = chosen()
    assert (settings.server.port, settings.model.model_id) == (1, "org/name")


@pytest.mark.parametrize("layer", ["flag", "environment", "file", "models"])
def test_a_named_model_is_served(layer: str, caplog: pytest.LogCaptureFixture) -> None:
    """The model need not be in the cache, and may be the default one."""
    put("org/name", "int8")
    if layer == "file":
        Path("config.json").write_text(json.dumps({"model": {"model_id": DEFAULT}}))
    environ = {"environment": {"INFRS_MODEL__MODEL_ID": DEFAULT}, "models": {"INFRS_MODELS": DEFAULT}}.get(layer)
    with caplog.at_level("INFO"):
        (model,) = chosen(environ, **({"model_id": DEFAULT} if layer == "flag" else {})).all_models
    assert (model.model_id, model.dtype) == (DEFAULT, "auto")
    assert caplog.messages == []


def test_the_default_model_is_served_if_it_is_cached() -> None:
    put(DEFAULT, "bfloat16")
    put("org/name", "int8")
    assert chosen() == Settings()


def test_dtype_and_revision_choose_among_cached_models() -> None:
    put("org/name", "int8")
    put("org/name", "int4")
    put("org/other", "int4", revision="v1")
    assert chosen(dtype="int8").model.dtype == "int8"
    assert chosen(dtype="int4", revision="v1").model.model_id == "org/other"
    message, commands = refusal(dtype="float32", revision="v1")
    assert message == "no model is named, and models_cache holds no model in float32 at revision v1; run one of these:"
    assert len(commands) == 3
    assert refusal(revision="c" * 40)[0].startswith(
        "no model is named, and models_cache holds 2 models at revision ccc"
    )


def test_several_cached_models_give_an_error_that_lists_them() -> None:
    put("org/name", "int8", cache="a cache")
    put("org/name", "int4", cache="a cache", revision="v1")
    put("elsewhere", "int4", cache="a cache/.tmp")
    (put("damaged", "int4", cache="a cache") / "manifest.json").write_text("{}")
    put("moved", "int4", cache="a cache").rename("a cache/moved/int8-1")  # which no command finds
    assert refusal(cache_dir="a cache") == (
        "no model is named, and a cache holds 2 models; run one of these:",
        (
            "infrs-serve org/name --dtype int8 --cache-dir 'a cache'",
            "infrs-serve org/name --dtype int4 --revision v1 --cache-dir 'a cache'",
        ),
    )


def test_without_a_model_the_error_shows_the_first_commands() -> None:
    assert refusal() == (
        "no model is named, and models_cache holds no model; run one of these:",
        ("infrs-serve --demo", f"infrs-serve {DEFAULT}"),
    )
    assert refusal(cache_dir="c", dtype="int4")[1] == (
        "infrs-serve --demo --dtype int4 --cache-dir c",
        f"infrs-serve {DEFAULT} --dtype int4 --cache-dir c",
    )


@pytest.mark.parametrize(
    ("cached", "like", "expected"),
    [
        (["float32", "int4", "int8"], MANIFEST, "int8"),
        (["int4", "bfloat16", "float32"], MANIFEST, "float32"),
        (["int4", "bfloat16", "float16"], MANIFEST, "float16"),
        (["int4", "bfloat16"], MANIFEST, "bfloat16"),
        (["int4"], MANIFEST, "int4"),
        (["int8", "float32"], EMBEDDING, "float32"),
        (["int8"], EMBEDDING, "int8"),
    ],
)
def test_auto_is_the_first_dtype_that_is_cached(cached: list[Dtype], like: AnyManifest, expected: str) -> None:
    for dtype in cached:
        put("org/name", dtype, key="1", like=like)
    older = like.model_copy(update={"created": "2000-01-01T00:00:00Z"})
    put("org/name", cached[0], key="2", like=older)
    model = chosen(model_id="org/name").model
    bundle = find_bundle(model.cache_dir, model.model_id, model.revision, model.dtype)
    assert bundle.name == f"{expected}-1"


def test_settings_have_the_ids_and_dtypes_of_the_bundles() -> None:
    settings = load_settings(environ={}, flags={"model.model_id": "./folder", "models": "./x.gguf,org/name"})
    manifests = [exported(name) for name in ("folder", "x", "org/name")]
    served = as_served(settings, manifests)
    assert [(model.model_id, model.dtype) for model in served.all_models] == [
        ("folder", "int8"), ("x", "int8"), ("org/name", "int8")
    ]  # fmt: skip
    alone = load_settings(environ={}, flags={"models": "./x.gguf"})
    assert [model.model_id for model in as_served(alone, [exported("x")]).all_models] == ["x"]


def test_two_models_of_one_id_are_refused() -> None:
    settings = load_settings(environ={}, flags={"models": "a/folder,b/folder"})
    with pytest.raises(ConfigError, match="two models are served as folder; export one of them with infrs-export --m"):
        as_served(settings, [exported("folder"), exported("folder")])


def exported(model_id: str) -> AnyManifest:
    source = Source(kind="local", model_id=model_id, revision="main")
    return MANIFEST.model_copy(update={"source": source, "dtype": "int8"})
