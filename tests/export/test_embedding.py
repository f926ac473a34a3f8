"""Bundles of embedding models give PyTorch's vectors, and unsupported options are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from embedding_models import CONFIGS, make_embedding_model, write
from infrs_export import embedding
from infrs_export.cli import main
from infrs_export.parity import embedding as embedding_parity
from infrs_export.pipeline import export_model
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel

from infrs.bundle.files import verify_bundle
from infrs.bundle.manifest import EMBEDDING_DTYPES, EmbeddingManifest, find_bundle
from infrs.errors import ExportError, ParityError, SourceError

TEXTS = ["Sea", "The lighthouse keeper's daughter learnt to read.", "y = f(x) + 12.5"]

Vectors = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def export(folder: Path, dtype: str = "auto", **options: object) -> tuple[Path, EmbeddingManifest]:
    bundle = export_model(str(folder), dtype=dtype, output=folder.parent / "cache", progress=False, **options)
    manifest = verify_bundle(bundle)
    assert isinstance(manifest, EmbeddingManifest)
    return bundle, manifest


def vectors(bundle: Path, texts: list[str]) -> Vectors:
    session = InferenceSession(bundle / "model.onnx")
    assert [node.name for node in session.get_inputs()] == ["input_ids"]
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    rows = [np.array([tokenizer.encode(text).ids]) for text in texts]
    return np.concatenate([session.run(["embedding"], {"input_ids": row})[0] for row in rows])


def reference(folder: Path, texts: list[str], pooling: str, normalize: bool, dense: bool) -> Vectors:
    """By the definitions, a text at a time, from the hidden states of transformers."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    model = AutoModel.from_pretrained(folder).eval()
    made = []
    for text in texts:
        with torch.inference_mode():
            hidden = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].numpy()
        places = np.arange(1, len(hidden) + 1)
        pooled = {
            "cls_token": hidden[0],
            "lasttoken": hidden[-1],
            "mean_tokens": hidden.mean(0),
            "max_tokens": hidden.max(0),
            "weightedmean_tokens": (places @ hidden / places.sum()).astype(np.float32),
            "mean_sqrt_len_tokens": hidden.sum(0) / np.sqrt(len(hidden), dtype=np.float32),
        }[pooling]
        if dense:
            weights = load_file(folder / "2_Dense" / "model.safetensors")
            pooled = np.tanh(weights["linear.weight"].numpy() @ pooled + weights["linear.bias"].numpy())
        made.append(pooled / np.linalg.norm(pooled) if normalize else pooled)
    return np.stack(made)


LAYOUTS = [
    ("bert", "mean_tokens", True, 0),
    ("bert", "max_tokens", True, 24),
    ("bert", "weightedmean_tokens", True, 0),
    ("bert", "mean_sqrt_len_tokens", False, 0),
    ("roberta", "cls_token", False, 0),
    ("mpnet", "mean_tokens", True, 0),
    ("llama", "mean_tokens", True, 0),
    ("qwen2", "lasttoken", True, 24),
    ("qwen3", "lasttoken", True, 0),
    ("mistral", "lasttoken", False, 0),
    ("gemma3_text", "mean_tokens", True, 24),
    ("modernbert", "cls_token", True, 0),
    ("xlm-roberta", "mean_tokens", True, 0),
]


def test_every_architecture_has_a_layout() -> None:
    assert {architecture for architecture, *_ in LAYOUTS} == CONFIGS.keys()


@pytest.mark.parametrize(("architecture", "pooling", "normalize", "dense"), LAYOUTS)
def test_vectors_are_those_of_pytorch(
    tmp_path: Path, architecture: str, pooling: str, normalize: bool, dense: int
) -> None:
    folder = make_embedding_model(tmp_path / "tiny", architecture, pooling=pooling, normalize=normalize, dense=dense)
    bundle, manifest = export(folder)
    assert (manifest.kind, manifest.architecture) == ("embedding", architecture)
    assert (manifest.dimensions, manifest.normalized) == (dense or 64, normalize)
    assert manifest.pooling == pooling.removesuffix("_tokens").removesuffix("_token")
    assert (manifest.context_length, manifest.vocab_size) == (48, 320)
    expected = reference(folder, TEXTS, pooling, normalize, bool(dense))
    np.testing.assert_allclose(vectors(bundle, TEXTS), expected, atol=2e-6 * np.abs(expected).max(), rtol=1e-4)
    assert find_bundle(tmp_path / "cache", "tiny", "main", "float32") == bundle


@pytest.mark.parametrize(("architecture", "pooling"), [("bert", "mean_tokens"), ("qwen3", "lasttoken")])
def test_every_dtype_that_is_offered(tmp_path: Path, architecture: str, pooling: str) -> None:
    folder = make_embedding_model(tmp_path / "tiny", architecture, pooling=pooling)
    expected = reference(folder, TEXTS, pooling, True, False)
    sizes = {}
    for dtype in EMBEDDING_DTYPES:
        bundle, manifest = export(folder, dtype)
        sizes[dtype] = manifest.files["model.onnx.data"].size
        assert (vectors(bundle, TEXTS) * expected).sum(1).min() > 0.999
        if dtype != "int8":
            assert float(manifest.parity["max_difference"]) < 1e-5
    assert sizes["float32"] > sizes["float16"] == sizes["bfloat16"] > sizes["int8"]
    with pytest.raises(ExportError, match=r"not offered in int4.*float32, float16, bfloat16, int8"):
        export(folder, "int4")


@pytest.mark.parametrize(("architecture", "longest"), [("bert", 64), ("roberta", 62), ("mpnet", 62), ("qwen2", 64)])
def test_texts_as_long_as_there_are_positions(tmp_path: Path, architecture: str, longest: int) -> None:
    """The layout names no length, or one beyond the positions, of which RoBERTa's kind has two less than it says."""
    for given in ({}, {"max_seq_length": 512}):
        _, manifest = export(make_embedding_model(tmp_path / "tiny", architecture, transformer=given))
        assert manifest.context_length == longest
    _, manifest = export(tmp_path / "tiny", context_length=16)
    assert manifest.context_length == 16
    with pytest.raises(ExportError, match=f"1 to {longest}"):
        export(tmp_path / "tiny", context_length=longest + 1)


def test_the_layout_that_newer_versions_write(tmp_path: Path) -> None:
    """As sentence-transformers 6.2 saves a model: other names, and the longest text with the tokenizer."""
    task = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    folder = make_embedding_model(tmp_path / "tiny", pooling="cls_token", transformer=task)
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        kind = module["type"].rpartition(".")[2]
        module["type"] = f"sentence_transformers.base.modules.{kind.lower()}.{kind}"
    write(folder / "modules.json", modules)
    described = {"embedding_dimension": 64, "pooling_mode": "cls", "include_prompt": True}
    write(folder / "1_Pooling" / "config.json", described)
    names = dict.fromkeys(("module_input_name", "module_output_name"), "sentence_embedding")
    write(folder / "3_Normalize" / "config.json", names)
    write(folder / "tokenizer_config.json", {"model_max_length": 40, "tokenizer_class": "PreTrainedTokenizerFast"})
    bundle, manifest = export(folder)
    assert (manifest.context_length, manifest.pooling) == (40, "cls")
    expected = reference(folder, TEXTS, "cls_token", True, False)
    np.testing.assert_allclose(vectors(bundle, TEXTS), expected, atol=1e-6)


def test_longer_context_needs_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "DEFAULT_LONGEST", 32)
    folder = make_embedding_model(tmp_path / "tiny")
    assert export(folder)[1].context_length == 32
    assert export(folder, context_length=48)[1].context_length == 48


def test_lower_casing_and_prompt_are_in_the_bundle(tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "find: ", "passage": ""}, "default_prompt_name": "query"}
    lower = {"max_seq_length": 48, "do_lower_case": True}
    bundle, manifest = export(make_embedding_model(tmp_path / "tiny", transformer=lower, prompts=prompts))
    assert (manifest.prompt, manifest.prompts) == ("find: ", {"query": "find: ", "passage": ""})
    shouted, said = vectors(bundle, ["SEA AND Ä", "sea and ä"])
    np.testing.assert_array_equal(shouted, said)


def test_module_options_change_the_bundle(tmp_path: Path) -> None:
    """Files of modules lie in folders of their own: another pooling or another Dense is another bundle."""
    folder = make_embedding_model(tmp_path / "tiny", dense=24)
    bundles = {export(folder)[0]}
    weights = load_file(folder / "2_Dense" / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, folder / "2_Dense" / "model.safetensors")
    bundles.add(export(folder)[0])
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    bundles.add(export(folder)[0])
    assert len(bundles) == 3


MODULE = "sentence_transformers.models."


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("modules.json", {}, "not a JSON array"),
        ("modules.json", [{"idx": 0, "path": "..", "type": MODULE + "Transformer"}], "not a folder next to it"),
        ("modules.json", [{"idx": 0, "path": "/etc", "type": MODULE + "Transformer"}], "not a folder next to it"),
        ("modules.json", [{"idx": 0, "path": "", "type": MODULE + "WordEmbeddings"}], "found WordEmbeddings"),
        (
            "modules.json",
            [
                {"idx": 0, "path": "", "type": MODULE + "Transformer"},
                {"idx": 1, "path": "1_Pooling", "type": MODULE + "Pooling"},
                {"idx": 2, "path": "2_LSTM", "type": MODULE + "LSTM"},
            ],
            "has LSTM after",
        ),
        ("modules.json", [{"idx": 0, "path": "", "type": "custom_st.Transformer"}], "'custom_st.Transformer', code"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "by attention; infrs offers"),
        ("1_Pooling/config.json", {"pooling_mode": "cls", "layer": 3}, "1_Pooling has layer 3"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "cls, max; "),
        ("1_Pooling/config.json", {}, "nothing; infrs offers"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "is 'long', not a number"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task 'fill-mask'"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length 32"),
        ("3_Normalize/config.json", {"module_input_name": "token_embeddings"}, "3_Normalize has module_input_name"),
        ("config.json", {"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}, "never runs"),
    ],
)
def test_unsupported_module_is_refused_by_name(tmp_path: Path, name: str, value: Any, message: str) -> None:
    folder = make_embedding_model(tmp_path / "tiny")
    write(folder / name, value)
    with pytest.raises(SourceError, match=message):
        export(folder)


def test_incomplete_dense_module_is_refused(tmp_path: Path) -> None:
    folder = make_embedding_model(tmp_path / "tiny", dense=24, activation="modules.activation.Softmax")
    with pytest.raises(SourceError, match=r"activation torch\.nn\.modules\.activation\.Softmax"):
        export(folder)
    make_embedding_model(folder, dense=24)
    weight, bias = torch.zeros(24, 64), torch.zeros(24)
    for tensors, words in (
        ({"linear.weight": weight}, r"2_Dense lack bias"),
        ({"linear.weight": weight[:, :8].contiguous(), "linear.bias": bias}, r"linear\.weight of shape \[24, 8\]"),
        ({"linear.weight": weight.int(), "linear.bias": bias}, r"linear\.weight as I32"),
        ({"linear.weight": weight, "linear.bias": bias, "bias": bias.clone()}, "which are one parameter"),
        ({"linear.weight": weight, "linear.bias": bias, "norm.weight": bias.clone()}, r"hold norm\.weight"),
        ({"linear.weight": weight, "linear.bias": bias / 0}, "NaN"),
    ):
        save_file(tensors, folder / "2_Dense" / "model.safetensors")
        with pytest.raises(SourceError, match=words):
            export(folder)
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"{")
    with pytest.raises(SourceError, match=r"2_Dense/model\.safetensors is damaged"):
        export(folder)


def test_a_mixture_of_experts_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    folder = make_embedding_model(tmp_path / "tiny", "qwen3")  # the weights of another model
    config = json.loads((folder / "config.json").read_text())
    experts = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    write(folder / "config.json", config | experts)
    with pytest.raises(
        SourceError, match=r"^qwen3_moe is a mixture of experts, which .* not for embeddings or classes;"
    ):
        export(folder)


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    """transformers would fill it with random numbers, and the gate would find them again in the bundle."""
    folder = make_embedding_model(tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    short = {name: tensor for name, tensor in weights.items() if ".layer.1.output.dense" not in name}
    save_file(short, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=r"lack encoder\.layer\.1\.output\.dense"):
        export(folder)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_graph_that_differs_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    record = embedding_parity.record

    def altered(encoder: torch.nn.Module, *arguments: Any) -> Any:
        recorded = record(encoder, *arguments)
        with torch.no_grad():
            encoder.transformer.encoder.layer[1].output.dense.weight *= -1
        return recorded

    monkeypatch.setattr(embedding_parity, "record", altered)
    with pytest.raises(ParityError, match="nothing was published"):
        export(make_embedding_model(tmp_path / "tiny"), dtype)
    assert not (tmp_path / "cache" / "tiny").exists()


def test_command_prints_the_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_embedding_model(tmp_path / "tiny")
    main([str(folder), "--output", str(tmp_path / "cache"), "--quiet"], standalone_mode=False)
    assert "bert, embeddings of 64 numbers, texts of up to 48 tokens, float32" in capsys.readouterr().out
