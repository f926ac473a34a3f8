import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.bundle.manifest import Dtype
from infrs.config.merge import flag_name, load_settings
from infrs.config.other_names import OTHER_DTYPES
from infrs.config.settings import SECTIONS, EngineSettings, Settings
from infrs.errors import ConfigError

KEYS = [f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields]
EXAMPLE = Path(__file__).parent.parent / "config.example.json"

# A value of each key other than its default, and how the three layers write it.
OTHER = {
    "server.host": "::1",
    "server.port": 8081,
    "server.max_body_bytes": 2048,
    "server.request_timeout": 12.5,
    "server.send_timeout": 3.0,
    "server.drain_timeout": 0.0,
    "server.header_timeout": 2.0,
    "server.body_timeout": 4.0,
    "server.queue_timeout": 5.0,
    "server.ping_interval": 7.0,
    "server.stall_timeout": 6.0,
    "server.load_timeout": 7.0,
    "server.max_stored_responses": 5,
    "server.stored_responses_mb": 3,
    "server.files_dir": "files",
    "server.files_mb": 64,
    "server.max_file_mb": 8,
    "server.max_batch_rows": 2,
    "server.models_memory_mb": 11,
    "server.max_connections": 9,
    "server.max_connections_per_address": 5,
    "server.api_keys_file": "keys.txt",
    "server.allow_unauthenticated": True,
    "server.allowed_hosts": "example.com",
    "server.cors_origins": "https://example.com",
    "server.web": False,
    "server.access_log": False,
    "server.traces": True,
    "server.log_level": "debug",
    "server.log_format": "json",
    "model.model_id": "org/name",
    "model.model_alias": "gpt, other",
    "model.revision": "v1",
    "model.dtype": "int4",
    "model.cache_dir": "elsewhere",
    "model.chat_format": "simple",
    "model.tool_format": "hermes",
    "model.generation_config": "none",
    "model.draft": "int4",
    "model.load": "demand",
    "model.keep_alive": 8.0,
    "model.pinned": True,
    "engine.kernels": "onnxruntime",
    "engine.instructions": "avx2",
    "engine.precision": "high",
    "engine.kv_dtype": "float16",
    "engine.speculation": False,
    "engine.threads": 3,
    "engine.max_num_seqs": 2,
    "engine.max_model_len": 100,
    "engine.prefill_chunk": 7,
    "engine.max_queue": 0,
    "engine.kv_budget_mb": 9,
    "engine.cache_idle_timeout": 0.0,
}


def env_name(key: str) -> str:
    return "INFRS_" + key.replace(".", "__").upper()


def text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def value_of(settings: Settings, key: str) -> object:
    section, name = key.split(".")
    return settings.model_dump(mode="json")[section][name]


def write(path: Path, key: str, value: object) -> Path:
    section, name = key.split(".")
    path.write_text(json.dumps({section: {name: value}}))
    return path


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(**layers: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_settings(**{"environ": {}, **layers})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return caught.value


def test_the_example_sets_five_keys_and_only_the_dtype_differs_from_the_defaults() -> None:
    assert json.loads(EXAMPLE.read_text()) == {
        "server": {"host": "127.0.0.1", "port": 3000},
        "model": {"model_id": "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "revision": "main", "dtype": "float32"},
    }
    example = load_settings(config=EXAMPLE, environ={})
    assert example == load_settings(environ={}, flags={"model.dtype": "float32"})
    assert Settings().model.dtype == "auto"


@pytest.mark.parametrize(
    ("content", "is_read"), [('{"model_type": "llama", "vocab_size": 3}', False), ('{"vocab_size": 3}', True)]
)
def test_config_json_of_a_model_is_no_settings_file(tmp_path: Path, content: str, is_read: bool) -> None:
    """A server can start in a model's folder; `--config` reads the file whatever it holds."""
    (tmp_path / "config.json").write_text(content)
    if is_read:
        assert "vocab_size (config.json): unknown key" in str(refused())
    else:
        assert load_settings(environ={}) == Settings()
    assert "unknown key" in str(refused(config=Path("config.json")))


def test_every_setting_is_tested_here() -> None:
    assert sorted(OTHER) == sorted(KEYS)
    assert all(value_of(Settings(), key) != value for key, value in OTHER.items())


def test_other_names_of_dtypes_lead_to_ours() -> None:
    ours = set(get_args(Dtype))
    assert set(OTHER_DTYPES.values()) == ours
    assert not ours & OTHER_DTYPES.keys()


def test_flags_are_unambiguous() -> None:
    assert len({flag_name(key) for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_every_setting_can_be_set_in_every_layer(key: str, tmp_path: Path) -> None:
    value = OTHER[key]
    from_file = load_settings(config=write(tmp_path / "c.json", key, value), environ={})
    from_environment = load_settings(environ={env_name(key): text(value)})
    from_flag = load_settings(environ={}, flags={key: text(value)})
    assert value_of(from_file, key) == value
    assert from_file == from_environment == from_flag


@given(ports=st.dictionaries(st.sampled_from(["file", "env", "flag"]), st.integers(0, 65535)))
def test_later_layers_win(ports: dict[str, int]) -> None:
    path = Path("order.json")
    write(path, "server.port", ports["file"]) if "file" in ports else path.write_text("{}")
    settings = load_settings(
        config=path,
        environ={"INFRS_SERVER__PORT": str(ports["env"])} if "env" in ports else {},
        flags={"server.port": str(ports["flag"])} if "flag" in ports else {},
    )
    last = [ports[layer] for layer in ("file", "env", "flag") if layer in ports]
    assert settings.server.port == (last[-1] if last else 3000)


@given(layers=st.lists(st.sampled_from(["file", "env", "flag"]), min_size=len(KEYS), max_size=len(KEYS)))
def test_layers_do_not_disturb_each_other(layers: list[str]) -> None:
    """Each setting in a layer of its own: all of them arrive."""
    where = dict(zip(KEYS, layers, strict=True))
    tree: dict[str, dict[str, object]] = {}
    for key in KEYS:
        if where[key] == "file":
            section, name = key.split(".")
            tree.setdefault(section, {})[name] = OTHER[key]
    path = Path("mixed.json")
    path.write_text(json.dumps(tree))
    settings = load_settings(
        config=path,
        environ={env_name(key): text(OTHER[key]) for key in KEYS if where[key] == "env"},
        flags={key: text(OTHER[key]) for key in KEYS if where[key] == "flag"},
    )
    assert {key: value_of(settings, key) for key in KEYS} == OTHER


@pytest.mark.parametrize(("old", "name", "value"), [("precise", "precision", "high"), ("avx2", "instructions", "avx2")])
def test_an_old_value_of_kernels_sets_its_own_setting_and_logs_a_note(
    old: str, name: str, value: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "c.json", "engine.kernels", old)
    for layers in ({"config": path}, {"environ": {"INFRS_ENGINE__KERNELS": old}}, {"flags": {"engine.kernels": old}}):
        caplog.clear()
        settings = load_settings(**{"environ": {}, **layers})  # type: ignore[arg-type]
        assert settings.engine == EngineSettings.model_validate({name: value})
        (record,) = caplog.records
        assert f"engine.{name} {value}" in record.message
    explicit = load_settings(config=path, environ={}, flags={f"engine.{name}": "auto"})
    assert explicit.engine == EngineSettings()


@pytest.mark.parametrize("value", ["fast", 7, ["avx2"]])
def test_a_value_of_kernels_that_never_existed_is_refused(value: object, tmp_path: Path) -> None:
    error = refused(config=write(tmp_path / "c.json", "engine.kernels", value))
    assert "is not allowed; allowed: auto, onnxruntime" in str(error)


def test_config_json_of_the_current_directory_is_read(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "server.port", 1234)
    assert load_settings(environ={}).server.port == 1234
    other = write(tmp_path / "other.json", "server.host", "::1")
    assert load_settings(config=other, environ={}).server.port == 3000


PORT = "a whole number from 0 to 65535"


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            {"environ": {"INFRS_SERVER__PORT": "70000"}},
            f"server.port (INFRS_SERVER__PORT): '70000' is not allowed; allowed: {PORT}",
        ),
        (
            {"environ": {"INFRS_SERVER__PORT": "many"}},
            f"server.port (INFRS_SERVER__PORT): 'many' is not allowed; allowed: {PORT}",
        ),
        ({"flags": {"server.port": "-1"}}, f"server.port (--port): '-1' is not allowed; allowed: {PORT}"),
        (
            {"flags": {"model.dtype": "fp32"}},
            "model.dtype (--dtype): 'fp32' is not allowed (did you mean float32?); "
            "allowed: auto, float32, float16, bfloat16, int8, int4",
        ),
        (
            {"environ": {"INFRS_MODEL__DTYPE": "Q4_K_M"}},
            "model.dtype (INFRS_MODEL__DTYPE): 'Q4_K_M' is not allowed (did you mean int4?); "
            "allowed: auto, float32, float16, bfloat16, int8, int4",
        ),
        (
            {"environ": {"INFRS_SERVER__HOST": ""}},
            "server.host (INFRS_SERVER__HOST): '' is not allowed; allowed: non-empty text",
        ),
        (
            {"flags": {"server.request_timeout": "0"}},
            "server.request_timeout (--request-timeout): '0' is not allowed; allowed: a number above 0 to 86400",
        ),
        (
            {"flags": {"server.access_log": "perhaps"}},
            "server.access_log (--access-log): 'perhaps' is not allowed; allowed: true, false",
        ),
        (
            {"environ": {"INFRS_PORT": "1"}},
            "port (INFRS_PORT): unknown key (did you mean INFRS_SERVER__PORT?); allowed: server, model, models, engine",
        ),
        (
            {"environ": {"INFRS_CTX_SIZE": "1"}},
            "ctx_size (INFRS_CTX_SIZE): unknown key (did you mean INFRS_ENGINE__MAX_MODEL_LEN?); "
            "allowed: server, model, models, engine",
        ),
        (
            {"environ": {"INFRS_SERVER_PORT": "1"}},
            "server_port (INFRS_SERVER_PORT): unknown key (did you mean INFRS_SERVER__PORT?); "
            "allowed: server, model, models, engine",
        ),
        (
            {"environ": {"INFRS_LICENCE": "x"}},
            "licence (INFRS_LICENCE): unknown key; allowed: server, model, models, engine",
        ),
        (
            {"environ": {"INFRS_SEVER__PORT": "1"}},
            "sever (INFRS_SEVER__PORT): unknown key (did you mean server?); allowed: server, model, models, engine",
        ),
        (
            {"environ": {"INFRS_MODEL__MODEL": "x"}},
            "model.model (INFRS_MODEL__MODEL): unknown key (did you mean INFRS_MODEL__MODEL_ID?); allowed: "
            "model.model_id, model.model_alias, model.revision, model.dtype, model.cache_dir, model.chat_format, "
            "model.tool_format, model.generation_config, model.draft, model.load, model.keep_alive, model.pinned",
        ),
        (
            {"environ": {"INFRS_MODEL": "x"}},
            "model (INFRS_MODEL) is a section, not a value; set one of INFRS_MODEL__MODEL_ID, "
            "INFRS_MODEL__MODEL_ALIAS, INFRS_MODEL__REVISION, INFRS_MODEL__DTYPE, INFRS_MODEL__CACHE_DIR, "
            "INFRS_MODEL__CHAT_FORMAT, INFRS_MODEL__TOOL_FORMAT, INFRS_MODEL__GENERATION_CONFIG, "
            "INFRS_MODEL__DRAFT, INFRS_MODEL__LOAD, INFRS_MODEL__KEEP_ALIVE, INFRS_MODEL__PINNED",
        ),
    ],
)
def test_errors_of_text_layers(layers: dict[str, dict[str, str]], message: str) -> None:
    assert str(refused(**layers)) == message


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("server.prot", "server.port"),
        ("server.threads", "engine.threads"),
        ("engine.dtyp", "model.dtype"),
        ("server.timeout", "server.request_timeout"),
        ("server.max_conn", "server.max_connections"),
        ("sever.port", "server"),
        ("engine.ctx_size", "engine.max_model_len"),
        ("server.disable_log_requests", "server.access_log"),
        ("server.foo", None),
        ("server.", None),
    ],
)
def test_unknown_key_is_answered_with_the_key_that_it_means(key: str, meant: str | None) -> None:
    section, _, name = key.partition(".")
    Path("c.json").write_text(json.dumps({section: {name: 1}}))
    hint = f" (did you mean {meant}?)" if meant else ""
    assert f"(c.json): unknown key{hint}; allowed: " in str(refused(config=Path("c.json")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"server": {"port": 70000}}', f"server.port (c.json): 70000 is not allowed; allowed: {PORT}"),
        ('{"server": {"port": "3000"}}', f"server.port (c.json): '3000' is not allowed; allowed: {PORT}"),
        ('{"server": {"port": true}}', f"server.port (c.json): True is not allowed; allowed: {PORT}"),
        ('{"server": {"port": 3000.0}}', f"server.port (c.json): 3000.0 is not allowed; allowed: {PORT}"),
        ('{"server": {"port": null}}', f"server.port (c.json): None is not allowed; allowed: {PORT}"),
        ('{"serve": {}}', "serve (c.json): unknown key (did you mean server?); allowed: server, model, models, engine"),
        ("[]", "c.json: Input should be an object"),
    ],
)
def test_errors_of_the_file(content: str, message: str) -> None:
    Path("c.json").write_text(content)
    assert str(refused(config=Path("c.json"))) == message


@pytest.mark.parametrize("content", [b"", b"{", b'{"server": {},}', b"\xff", b"{} {}", b"// no\n{}"])
def test_a_file_that_is_not_json(content: bytes) -> None:
    Path("c.json").write_bytes(content)
    assert str(refused(config=Path("c.json"))).startswith("c.json: Invalid JSON")


def test_a_file_that_is_not_there() -> None:
    assert str(refused(config=Path("no.json"))) == "no.json cannot be read: No such file or directory"


def test_a_file_named_outright_is_not_replaced_by_config_json(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "server.port", 1)
    refused(config=Path("no.json"))


def test_the_first_layer_at_fault_is_named_whatever_overrides_it() -> None:
    """A wrong value is an error even where a later layer would hide it."""
    error = refused(environ={"INFRS_SERVER__PORT": "no"}, flags={"server.port": "80"})
    assert error.param == "server.port"
    assert "INFRS_SERVER__PORT" in str(error)


def test_long_values_are_cut() -> None:
    assert len(str(refused(environ={"INFRS_MODEL__DTYPE": "x" * 5000}))) < 250


def test_the_variables_of_others_are_left_alone() -> None:
    assert load_settings(environ={"HF_TOKEN": "t", "SERVER__PORT": "1", "XINFRS_SERVER__PORT": "1"}) == Settings()
