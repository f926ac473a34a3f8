"""From a folder to a bundle: every dtype, the gate, reproducibility, replacing, and what a second run costs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from arch_models import FUSED, MIXTURES, make_model
from infrs_export import pipeline
from infrs_export.bundle import companions
from infrs_export.cli import main
from infrs_export.parity import chat as parity
from infrs_export.pipeline import export_model
from safetensors.torch import load_file, save_file
from tiny_tokenizer import VOCAB, write_tokenizer

from infrs.bundle.files import verify_bundle
from infrs.bundle.local_models import find_exported, read_local
from infrs.bundle.manifest import Sampling, find_bundle, read_manifest
from infrs.bundle.states import KVGeometry
from infrs.cli.command import run
from infrs.config.settings import EngineSettings, ModelSettings
from infrs.core import SamplingParams
from infrs.errors import BundleNotFoundError, DiskFullError, ExportError, ParityError, SourceError
from infrs.models.load import load_model

DTYPES = ("float32", "float16", "bfloat16", "int8", "int4")
MODEL_FILES = {"model.onnx", "model.onnx.data"}


def export(model: Path, cache: Path, dtype: str = "float32", **options: object) -> Path:
    return export_model(str(model), dtype=dtype, output=cache, progress=False, **options)


@pytest.fixture(scope="module")
def bundles(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    cache = tmp_path_factory.mktemp("cache")
    return {dtype: export(tiny_folder, cache, dtype) for dtype in DTYPES}


@pytest.mark.parametrize("dtype", DTYPES)
def test_bundle_is_whole_and_found_under_its_folder_name(bundles: dict[str, Path], dtype: str) -> None:
    bundle = bundles[dtype]
    manifest = verify_bundle(bundle)
    assert find_bundle(bundle.parent.parent, "tiny-llama", "main", dtype) == bundle
    assert bundle.name.startswith(f"{dtype}-")
    assert manifest.graph == "fused"
    assert manifest.architecture == "llama"
    geometry = KVGeometry(num_layers=2, num_kv_heads=2, head_dim=16)
    assert manifest.states == geometry.states("float32" if dtype in ("float32", "float16") else "float16")
    assert (manifest.batch_invariant, manifest.chunk_invariant) == (True, True)
    assert manifest.context_length == 128
    assert manifest.source.kind == "local"
    assert {*MODEL_FILES, "config.json", "tokenizer.json", "tokenizer_config.json"} <= manifest.files.keys()
    assert manifest.tool_versions.keys() >= {"torch", "transformers", "optimum", "onnx"}


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss", "gemma4-experts"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mixture_of_experts_passes_the_parity_check(name: str, dtype: str, tmp_path: Path) -> None:
    model_type, changes = MIXTURES[name]
    sizes = dict.fromkeys(("vocab_size", *({"vocab_size_per_layer_input"} & changes.keys())), VOCAB)
    make_model(model_type, changes | sizes).save_pretrained(tmp_path / name)
    write_tokenizer(tmp_path / name)
    manifest = verify_bundle(export(tmp_path / name, tmp_path / "cache", dtype))
    is_invariant = dtype in ("int8", "int4") or name == "gemma4-experts"  # ONNX Runtime's MoE is not, and has no GELU
    assert (manifest.batch_invariant, manifest.chunk_invariant) == (is_invariant, is_invariant)


@pytest.mark.parametrize(("context", "factors"), [(None, "short"), (64, "short"), (128, "long")])
def test_the_manifest_names_the_factors_of_longrope(context: int | None, factors: str, tmp_path: Path) -> None:
    model_type, changes = FUSED["phi3-longrope"]
    make_model(model_type, {**changes, "vocab_size": VOCAB}).save_pretrained(tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    manifest = verify_bundle(export(tmp_path / "model", tmp_path / "cache", context_length=context))
    assert (manifest.rope_factors, manifest.context_length) == (factors, context or 64)


def test_generation_ends_at_the_end_of_a_turn_too(bundles: dict[str, Path]) -> None:
    special = read_manifest(bundles["float32"]).special_tokens
    assert special.eos == (1, 2)  # </s> of the configuration, <|im_end|> of the chat template
    assert special.bos == 0


def test_default_sampling_is_in_the_manifest(bundles: dict[str, Path]) -> None:
    for bundle in bundles.values():
        assert read_manifest(bundle).sampling == Sampling(temperature=0.6, top_k=20)


@pytest.mark.parametrize(
    ("mode", "expected"), [("auto", SamplingParams(temperature=0.6, top_k=20)), ("none", SamplingParams())]
)
def test_a_server_samples_as_the_bundle_says(bundles: dict[str, Path], mode: str, expected: SamplingParams) -> None:
    settings = ModelSettings(model_id="tiny-llama", generation_config=mode)
    model = load_model(bundles["float32"], settings, EngineSettings(threads=1, max_num_seqs=1))
    model.engine.stop(10)
    assert model.sampling == expected


def test_parity_figures_are_in_the_manifest(bundles: dict[str, Path]) -> None:
    for dtype in ("float32", "float16", "bfloat16"):
        figures = read_manifest(bundles[dtype]).parity
        name = "max_difference_precise" if dtype in parity.ROUNDED_INPUTS else "max_difference"
        assert float(figures[name]) <= parity.MAX_DIFFERENCE
    assert float(read_manifest(bundles["bfloat16"]).parity["kl"]) < 0.001
    assert 0 < float(read_manifest(bundles["int8"]).parity["kl"]) < float(read_manifest(bundles["int4"]).parity["kl"])


def test_narrow_dtypes_are_smaller(bundles: dict[str, Path]) -> None:
    sizes = {dtype: read_manifest(bundles[dtype]).files["model.onnx.data"].size for dtype in DTYPES}
    assert sizes["int4"] < sizes["int8"] < sizes["float16"] == sizes["bfloat16"] < sizes["float32"]


@pytest.mark.parametrize("dtype", ["float32", "int4"])
def test_same_inputs_give_the_same_bytes(
    tiny_folder: Path, tmp_path: Path, bundles: dict[str, Path], dtype: str
) -> None:
    again = read_manifest(export(tiny_folder, tmp_path, dtype))
    assert again.files == read_manifest(bundles[dtype]).files


def test_existing_bundle_is_returned_without_torch(tiny_folder: Path, bundles: dict[str, Path]) -> None:
    cache = bundles["float32"].parent.parent
    code = (
        "import sys; from pathlib import Path; from infrs_export.pipeline import export_model\n"
        f"print(export_model({str(tiny_folder)!r}, dtype='int4', output=Path({str(cache)!r}), progress=False))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == bundles["int4"]


def test_auto_is_int8(tiny_folder: Path, bundles: dict[str, Path]) -> None:
    assert export(tiny_folder, bundles["int8"].parent.parent, "auto") == bundles["int8"]


def test_a_bundle_is_found_by_the_path_of_its_source(tiny_copy: Callable[[str], Path], tmp_path: Path) -> None:
    """Every export of the path counts, also one that finds its bundle in the cache."""
    folder, cache = tiny_copy("tiny"), tmp_path / "cache"
    bundle = export(folder, cache)
    assert find_exported(cache, read_local(folder), "auto") == bundle
    (folder / "config.json").touch()
    assert find_exported(cache, read_local(folder), "auto") is None
    assert export(folder, cache) == bundle
    assert find_exported(cache, read_local(folder), "float32") == bundle
    renamed = export(folder, cache, model_id="a/b")
    assert find_exported(cache, read_local(folder), "auto") == renamed


def test_force_replaces_the_bundle(tiny_folder: Path, tmp_path: Path) -> None:
    first = export(tiny_folder, tmp_path)
    created = read_manifest(first).created
    (first / "tokenizer.json").write_text("{}")
    second = export(tiny_folder, tmp_path, force=True)
    assert second == first
    assert verify_bundle(second).created > created
    assert not list((tmp_path / ".tmp").iterdir())


def test_other_content_id_or_context_is_another_bundle(tiny_copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder, cache = tiny_copy("one"), tmp_path / "cache"
    paths = {export(folder, cache), export(folder, cache, context_length=64), export(folder, cache, model_id="a/b")}
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    paths.add(export(folder, cache))
    assert len(paths) == 4
    assert read_manifest(find_bundle(cache, "a/b", "main", "float32")).context_length == 128


def test_an_output_that_cannot_be_made(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to("nowhere/at/all")
    with pytest.raises(ExportError, match=r"cache cannot be made \(File exists\); choose another --output"):
        export(tiny_folder, tmp_path / "cache")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_graph_that_differs_is_not_published(
    dtype: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = parity.record

    def altered(model: torch.nn.Module, *arguments: object) -> list[parity.Passage]:
        passages = record(model, *arguments)
        with torch.no_grad():
            model.model.layers[1].mlp.down_proj.weight *= 1.01
        return passages

    monkeypatch.setattr(parity, "record", altered)
    with pytest.raises(ParityError, match="a logit by"):
        export(tiny_folder, tmp_path, dtype)
    with pytest.raises(BundleNotFoundError):
        find_bundle(tmp_path, "tiny-llama", "main", dtype)
    assert not list((tmp_path / ".tmp").iterdir())


def test_a_recipe_that_loses_too_much_is_not_published(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.LIMITS, "int4", parity.Limits(kl=1e-4, top1=1.0))
    with pytest.raises(ParityError, match="finer --dtype"):
        export(tiny_folder, tmp_path, "int4")
    assert not (tmp_path / "tiny-llama").exists()


def test_full_disk_is_reported_before_writing(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.recipes, "stored_bytes", lambda dtype, num_weights: 1 << 60)
    with pytest.raises(DiskFullError, match="needs about"):
        export(tiny_folder, tmp_path)


def test_a_foreign_tokenizer_is_refused(tiny_copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_copy("foreign")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {token: index + 1000 for token, index in tokenizer["model"]["vocab"].items()}
    tokenizer["added_tokens"] = []
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SourceError, match="do not belong together"):
        export(folder, tmp_path / "cache")


def test_a_model_without_any_tokenizer_is_refused(tiny_copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_copy("mute")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match=r"tokenizer\.json"):
        export(folder, tmp_path / "cache")


def test_special_tokens_are_collected_from_every_file(tiny_copy: Callable[[str], Path]) -> None:
    folder = tiny_copy("special")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7], "pad_token_id": 9}))
    special = companions.special_tokens(folder, 64)
    assert special.eos == (1, 2, 5, 7)
    assert special.pad == 9


ODD = [
    ({"temperature": -0.1}, "temperature -0.1"),
    ({"temperature": 2.5}, "temperature 2.5"),
    ({"temperature": "0.7"}, "temperature '0.7'"),
    ({"temperature": True}, "temperature True"),
    ({"temperature": math.nan}, "temperature nan"),
    ({"temperature": 10**400}, f"temperature {'1' + 39 * '0'} "),
    ({"top_p": -0.1}, "top_p -0.1"),
    ({"top_p": math.inf}, "top_p inf"),
    ({"top_k": 20.5}, "top_k 20.5"),
    ({"top_k": -1}, "top_k -1"),
    ({"top_k": 1 << 31}, "top_k 2147483648"),
    ({"min_p": [0.1]}, "min_p [0.1]"),
    ({"typical_p": {}}, "typical_p {}"),
    ({"repetition_penalty": 0}, "repetition_penalty 0"),
]


@pytest.mark.parametrize(("odd", "note_start"), ODD, ids=[start for _, start in ODD])
def test_invalid_sampling_is_omitted_and_reported(odd: dict[str, object], note_start: str, tmp_path: Path) -> None:
    sound = {"do_sample": False, "temperature": None, "top_p": 0.9, "top_k": 5, "typical_p": 1, "num_beams": 4}
    notes: list[str] = []
    (tmp_path / "generation_config.json").write_text(json.dumps(sound | odd))
    kept = {"top_p": 0.9, "top_k": 5, "typical_p": 1.0}
    for name in odd:
        kept.pop(name, None)
    assert companions.sampling(tmp_path, notes.append) == Sampling.model_validate(kept)
    [note] = notes
    assert note.startswith(f"generation_config.json: {note_start}")
    assert " is left out: Input should be " in note
    assert len(note) < 200


def test_model_without_generation_config_has_neutral_sampling(tmp_path: Path) -> None:
    notes: list[str] = []
    assert companions.sampling(tmp_path, notes.append) == Sampling()
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "temperature": None}))
    assert companions.sampling(tmp_path, notes.append) == Sampling()
    assert notes == []


def test_invalid_sampling_does_not_fail_the_export(tiny_copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_copy("odd")
    odd: dict[str, object] = {}
    for value, _ in reversed(ODD):
        odd |= value
    (folder / "generation_config.json").write_text(json.dumps(odd | {"top_p": 0.5}))
    assert read_manifest(export(folder, tmp_path / "cache")).sampling == Sampling(top_p=0.5)


def test_command_reports_and_fails_with_the_errors_code(
    tiny_folder: Path, bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cache = str(bundles["int8"].parent.parent)
    arguments = [str(tiny_folder), "--dtype", "int8", "--output", cache, "--quiet"]
    run(main, "infrs-export", arguments)
    output = capsys.readouterr().out
    serve = f"Serve it:\n  infrs-serve tiny-llama --dtype int8 --cache-dir {cache}\n"
    assert output.startswith("Already exported: ")
    assert output.endswith(serve)
    run(main, "infrs-export", [*arguments, "--for-server"])
    assert capsys.readouterr().out == output.removesuffix(serve)
    with pytest.raises(SystemExit) as stop:
        run(main, "infrs-export", ["no/such folder", "--output", cache])
    assert stop.value.code == SourceError.exit_code
