"""The layouts of embedding models: modules in any order, models without modules, prompts and shorter vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding_models import make_embedding_model, write
from infrs_export.pipeline import export_model
from infrs_export.sources.embeddings.find import find_layout, is_embedding_model
from infrs_export.sources.embeddings.layout import Lengths, Prompts
from infrs_export.sources.embeddings.prompts import read_lengths, read_prompts
from onnxruntime import InferenceSession
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel

from infrs.bundle.manifest import EmbeddingManifest, read_manifest
from infrs.errors import ExportError, SourceError

IDS = [[5, 40, 41, 7], [9]]
ENCODER = {"model_type": "bert", "architectures": ["BertModel"]}


def export(folder: Path, **options: Any) -> tuple[np.ndarray, EmbeddingManifest]:
    """Return the vectors of IDS in a bundle, and its manifest."""
    bundle = export_model(str(folder), output=folder.parent / "cache", progress=False, **options)
    session = InferenceSession(bundle / "model.onnx")
    manifest = read_manifest(bundle)
    assert isinstance(manifest, EmbeddingManifest)
    return np.concatenate([session.run(None, {"input_ids": np.array([row])})[0] for row in IDS]), manifest


def hidden(folder: Path) -> list[torch.Tensor]:
    """Return the token vectors of IDS as transformers computes them."""
    torch.set_num_threads(1)
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return [model(torch.tensor([row])).last_hidden_state[0] for row in IDS]


def test_modules_run_in_the_order_of_the_file(tmp_path: Path) -> None:
    folder = make_embedding_model(tmp_path / "tiny", "gemma3_text")
    sizes = {"2_Dense": (64, 48, "GELU"), "4_Dense": (48, 24, "SiLU"), "5_Dense": (24, 16, "Identity")}
    products = {}
    for name, (inputs, outputs, activation) in sizes.items():
        described = {"in_features": inputs, "out_features": outputs, "bias": False}
        kind = getattr(nn, activation)
        path = {"activation_function": f"{kind.__module__}.{activation}"}
        write(folder / name / "config.json", described | path)
        products[name] = torch.randn(outputs, inputs) / 4
        save_file({"linear.weight": products[name]}, folder / name / "model.safetensors")
    names = ["", "1_Pooling", "2_Dense", "3_Normalize", "4_Dense", "5_Dense", "6_Dropout"]
    kinds = [name.partition("_")[2] or "Transformer" for name in names]
    package = "sentence_transformers.models."
    write(
        folder / "modules.json",
        [
            {"idx": i, "path": name, "type": package + kind}
            for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
        ],
    )
    expected = []
    for tokens in hidden(folder):
        vector = nn.functional.normalize(nn.functional.gelu(products["2_Dense"] @ tokens.mean(0)), dim=-1)
        vector = nn.functional.silu(products["4_Dense"] @ vector)
        expected.append((products["5_Dense"] @ vector).numpy())
    vectors, manifest = export(folder)
    assert (manifest.dimensions, manifest.normalized) == (16, False)
    np.testing.assert_allclose(vectors, expected, atol=2e-6 * np.abs(expected).max(), rtol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "pooling", "used"),
    [("roberta", None, "mean"), ("mpnet", "cls", "cls"), ("qwen3", "lasttoken", "lasttoken")],
)
def test_model_without_modules(tmp_path: Path, architecture: str, pooling: Any, used: str) -> None:
    folder = make_embedding_model(tmp_path / "tiny", architecture)
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    expected = [{"mean": rows.mean(0), "cls": rows[0], "lasttoken": rows[-1]}[used].numpy() for rows in hidden(folder)]
    vectors, manifest = export(folder, pooling=pooling)
    assert (manifest.pooling, manifest.normalized, manifest.prompts) == (used, False, {})
    np.testing.assert_allclose(vectors, expected, atol=2e-6 * np.abs(expected).max(), rtol=1e-4)


def test_another_pooling_is_another_bundle(tmp_path: Path) -> None:
    folder = make_embedding_model(tmp_path / "tiny")
    (folder / "modules.json").unlink()
    made = [export(folder, pooling=pooling)[1].pooling for pooling in (None, "cls", None)]
    assert made == ["mean", "cls", "mean"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ENCODER, True),
        ({"model_type": "xlm-roberta"}, True),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, True),
        ({"model_type": "bert", "architectures": ["BertForTokenClassification"]}, False),
        ({"model_type": "bert", "is_decoder": True}, False),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, False),
    ],
)
def test_which_folders_hold_an_embedding_model(tmp_path: Path, config: dict[str, Any], expected: bool) -> None:
    write(tmp_path / "config.json", config)
    assert is_embedding_model(tmp_path, None) is expected
    assert is_embedding_model(tmp_path, "lasttoken")
    write(tmp_path / "modules.json", [])
    assert is_embedding_model(tmp_path, None)


def layout_folder(folder: Path, modules: list[str], **files: object) -> Path:
    """Write the files of a layout, without weights. files: contents by the stem of a module's config.json."""
    package = "sentence_transformers.models."
    listed = [("Transformer", ""), *((name.partition("_")[2], name) for name in modules)]
    write(folder / "modules.json", [{"path": path, "type": package + kind} for kind, path in listed])
    write(folder / "config.json", ENCODER)
    for name in modules:
        write(folder / name / "config.json", files.get(name.partition("_")[2], {}))
    write(folder / "config_sentence_transformers.json", files.get("prompts", {}))
    return folder


DENSE = {"in_features": 8, "out_features": 4}


@pytest.mark.parametrize(
    ("modules", "files", "message"),
    [
        (["1_Pooling", "2_LayerNorm"], {}, "has LayerNorm after the pooling"),
        (["1_Pooling", "2_Dense"], {"Dense": {**DENSE, "use_residual": True}}, "2_Dense has use_residual True"),
        (["1_Pooling", "2_Dense"], {"Dense": {**DENSE, "activation_function": "my.ReLU"}}, r"activation my\.ReLU"),
        (["1_Dense", "2_Pooling"], {"Dense": DENSE}, "must begin with"),
        (
            ["1_Pooling"],
            {"Pooling": {"pooling_mode": "mean", "include_prompt": False}, "prompts": {"prompts": {"query": "q: "}}},
            "include_prompt",
        ),
        (["1_Pooling"], {"prompts": {"default_prompt_name": "query"}}, r"'query', which is not among .*\(none\)"),
        (["1_Pooling"], {"prompts": {"prompts": {"query": 3}}}, "the prompt 'query' is not a text"),
        (["1_Pooling"], {"prompts": {"prompts": {"query": "x" * 4097}}}, "at most 4096 characters"),
        (["1_Pooling"], {"prompts": {"truncate_dim": "short"}}, "truncate_dim is .*'short'"),
    ],
)
def test_what_changes_vectors_is_refused_by_name(
    tmp_path: Path, modules: list[str], files: dict[str, Any], message: str
) -> None:
    folder = layout_folder(tmp_path, modules, **{"Pooling": {"pooling_mode": "mean"}, **files})
    with pytest.raises(SourceError, match=message):
        find_layout(folder, None)


def test_pooling_against_the_files_is_refused(tmp_path: Path) -> None:
    folder = layout_folder(tmp_path, ["1_Pooling"], Pooling={"pooling_mode": "lasttoken"})
    assert find_layout(folder, "lasttoken").pooling == "lasttoken"
    with pytest.raises(ExportError, match="ask for lasttoken pooling, so mean"):
        find_layout(folder, "mean")


def test_encoder_decoder_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"model_type": "t5", "is_encoder_decoder": True})
    with pytest.raises(SourceError, match="'t5' has an encoder and a decoder"):
        find_layout(tmp_path, "mean")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Prompts()),
        ({"prompts": None, "default_prompt_name": None}, Prompts()),
        ({"prompts": {"query": "q: ", "document": None}}, Prompts("", {"query": "q: ", "document": ""})),
        ({"prompts": {"s2s": "x "}, "default_prompt_name": "s2s"}, Prompts("x ", {"s2s": "x "})),
    ],
)
def test_prompts_of_the_model(tmp_path: Path, config: dict[str, Any], expected: Prompts) -> None:
    write(tmp_path / "config_sentence_transformers.json", config)
    assert read_prompts(tmp_path) == expected


@pytest.mark.parametrize(
    ("config", "truncate_dim", "expected"),
    [
        ({}, None, Lengths()),
        ({"is_matryoshka": True}, None, Lengths()),
        ({"is_matryoshka": False}, None, Lengths(None, ())),
        ({"matryoshka_dimensions": [256, 64, 256]}, None, Lengths(None, (64, 256))),
        ({"is_matryoshka": True, "matryoshka_dimensions": [64]}, 64, Lengths(64, (64,))),
    ],
)
def test_lengths_that_the_model_declares(
    tmp_path: Path, config: dict[str, Any], truncate_dim: int | None, expected: Lengths
) -> None:
    write(tmp_path / "config.json", config)
    write(tmp_path / "config_sentence_transformers.json", {"truncate_dim": truncate_dim})
    assert read_lengths(tmp_path) == expected


def test_declared_lengths_are_in_the_bundle(tmp_path: Path) -> None:
    folder = make_embedding_model(tmp_path / "tiny", prompts={"truncate_dim": 32})
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"matryoshka_dimensions": [16, 32, 64]})
    manifest = export(folder)[1]
    assert (manifest.dimensions, manifest.default_dimensions, manifest.shorter) == (64, 32, (16, 32))
    write(folder / "config.json", config | {"matryoshka_dimensions": [128]})
    with pytest.raises(SourceError, match="vectors of 128 numbers, but its vectors have 64"):
        export(folder)
