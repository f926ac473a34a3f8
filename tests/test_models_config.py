"""`models`: several models in the configuration, spelt by any layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infrs.config.merge import load_settings
from infrs.config.settings import ModelSettings, Settings
from infrs.errors import ConfigError

DEFAULT = ModelSettings().model_id


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def of_file(value: dict[str, Any], **layers: Any) -> Settings:
    Path("c.json").write_text(json.dumps(value))
    return load_settings(**{"config": Path("c.json"), "environ": {}, **layers})


def ids(settings: Settings) -> list[str]:
    return [model.model_id for model in settings.all_models]


def test_without_models_the_only_model_is_served() -> None:
    assert ids(load_settings(environ={})) == [DEFAULT]
    assert ids(of_file({"models": []})) == [DEFAULT]


@pytest.mark.parametrize("text", ["a/b, c/d", '["a/b", {"model_id": "c/d"}]', "a/b,c/d,"])
def test_models_can_be_set_in_every_layer(text: str) -> None:
    settings = of_file({"models": ["a/b", {"model_id": "c/d"}]})
    assert ids(settings) == ["a/b", "c/d"]
    assert (
        load_settings(environ={"INFRS_MODELS": text}) == load_settings(environ={}, flags={"models": text}) == settings
    )


def test_a_later_layer_replaces_the_list() -> None:
    assert ids(of_file({"models": ["a/b"]}, environ={"INFRS_MODELS": "c/d,e/f"})) == ["c/d", "e/f"]
    assert ids(of_file({"models": ["a/b"]}, environ={"INFRS_MODELS": "c/d"}, flags={"models": "g/h"})) == ["g/h"]


def test_the_model_that_is_named_comes_first() -> None:
    assert ids(of_file({"model": {"model_id": "m/m"}, "models": ["a/b"]})) == ["m/m", "a/b"]
    assert ids(of_file({"models": ["a/b"]}, flags={"model.model_id": "m/m", "model.dtype": "int4"})) == ["m/m", "a/b"]


def test_an_entry_has_settings_of_its_own() -> None:
    entry = {"model_id": "a/b", "dtype": "int8", "revision": "v2", "cache_dir": "there"}
    settings = of_file({"models": [entry, "c/d"]}, flags={"model.cache_dir": "elsewhere"})
    first, second = settings.all_models
    assert (first.dtype, first.revision, first.cache_dir) == ("int8", "v2", Path("there"))
    assert (second.dtype, second.revision, second.cache_dir) == ("auto", "main", Path("elsewhere"))


LIST = "at most 64 model ids, or objects with the keys of `model`"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"models": ["a/b", "a/b"]}, "models: a/b is named twice; remove one of them"),
        ({"model": {"model_id": "a/b"}, "models": ["a/b"]}, "models: a/b is named twice; remove one of them"),
        (
            {"model": {"dtype": "int8"}, "models": ["a/b"]},
            "model.dtype is set, but of no model: set model.model_id too, or dtype in an entry of `models`",
        ),
        ({"models": "a/b"}, f"models (c.json): 'a/b' is not allowed; allowed: {LIST}"),
        ({"models": [3]}, f"models.0 (c.json): 3 is not allowed; allowed: {LIST}"),
        ({"models": [""]}, "models.0.model_id (c.json): '' is not allowed; allowed: text of 1 to 4096 characters"),
        ({"models": [{}]}, "models.0.model_id (c.json): is required; allowed: text of 1 to 4096 characters"),
        (
            {"models": ["a/b", {"model_id": "c/d", "dtype": "int5"}]},
            "models.1.dtype (c.json): 'int5' is not allowed; allowed: auto, float32, float16, bfloat16, int8, int4",
        ),
        (
            {"models": [{"model_id": "a/b", "dtyp": "int8"}]},
            "models.0.dtyp (c.json): unknown key (did you mean models.0.dtype?); allowed: "
            "model_id, model_alias, revision, dtype, cache_dir, chat_format, tool_format, generation_config, draft, "
            "load, keep_alive, pinned",
        ),
    ],
)
def test_errors_of_the_file(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_file(value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("layers", "start"),
    [
        ({"environ": {"INFRS_MODELS": "[1"}}, "models (INFRS_MODELS): "),
        ({"environ": {"INFRS_MODELS": '[{"model_id": 1}]'}}, "models.0.model_id (INFRS_MODELS): 1 is not allowed"),
        ({"environ": {"INFRS_MODELS__0": "a/b"}}, "models (INFRS_MODELS__0): "),
        ({"environ": {}, "flags": {"models": '["a/b", 2]'}}, "models.1 (--models): 2 is not allowed"),
    ],
)
def test_errors_of_text_layers(layers: dict[str, Any], start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(**layers)
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    assert "allowed: " in str(caught.value)
