"""Bundles of embedding models as the server opens them, and which models go together."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import onnx
import pytest
from embedding_models import make_embedding_model
from infrs_export.pipeline import export_model
from onnx import TensorProto, helper

from infrs.api.embeddings.embed import encode_texts
from infrs.api.embeddings.request import parse_embedding_request
from infrs.bundle.manifest import EmbeddingManifest, Manifest, Source, chat_manifest, read_manifest
from infrs.config.settings import EngineSettings, ModelSettings, Settings
from infrs.engine.runners.session import kernels_of
from infrs.errors import BundleError, ConfigError, ContextLengthError, DrainingError, EngineError, RequestError
from infrs.models.encoders.embedding_model import EmbeddingModel, load_embedding_model
from infrs.models.encoders.encoder import OnnxEncoder, open_encoder, shorten
from infrs.models.load import check_kinds, load_model, load_models
from infrs.models.registry import ModelRegistry
from infrs.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embedding")
    prompts = {"prompts": {"query": "find: ", "passage": ""}, "default_prompt_name": "query"}
    folder = make_embedding_model(root / "tiny", prompts=prompts)
    return export_model(str(folder), output=root / "cache", progress=False)


@pytest.fixture(scope="module")
def model(bundle: Path) -> EmbeddingModel:
    manifest = read_manifest(bundle)
    assert isinstance(manifest, EmbeddingManifest)
    return load_embedding_model(bundle, manifest, Tokenizer.load(bundle), threads=1)


@pytest.mark.parametrize(
    ("fields", "text"),
    [({}, "find: sea"), ({"prompt": "seek: "}, "seek: sea"), ({"prompt_name": "passage"}, "sea")],
)
def test_texts_start_with_the_prompt(model: EmbeddingModel, fields: dict[str, str], text: str) -> None:
    [ids] = encode_texts(model, parse_embedding_request({"model": "tiny", "input": "sea", **fields}))
    assert model.tokenizer.decode(ids, skip_special=False) == f"<s>{text}</s>"


def test_texts_are_never_truncated(model: EmbeddingModel) -> None:
    long = model.ids_of("sea " * 100, "input")  # the tokenizer as published truncates at 16 and pads
    assert len(long) > 100
    with pytest.raises(ContextLengthError, match=rf"input\[3\] has {len(long)} tokens, .* at most 48"):
        model.check_length(long, "input[3]")
    model.check_length(long[:48], "input")


def test_a_vector_is_the_same_each_time(model: EmbeddingModel) -> None:
    ids = model.ids_of("The train leaves at six.", "input")
    first = model.encoder.encode(ids)
    assert (first.dtype, first.shape) == (np.float32, (64,))
    model.encoder.encode(ids[:3])
    np.testing.assert_array_equal(model.encoder.encode(ids), first)


def test_graph_with_another_signature_is_refused(bundle: Path, model: EmbeddingModel, tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    ])  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "model.onnx"
    )
    with pytest.raises(BundleError, match="not those of an embedding model"):
        open_encoder(tmp_path, model.manifest, 1)


@pytest.mark.parametrize("vector", [[np.nan, 0.0], [np.inf, 0.0], [1.0, 0.0, 0.0]])
def test_invalid_vector_is_an_error(vector: list[float]) -> None:
    class Session:
        def run(self, *_: object) -> list[list[np.ndarray]]:
            return [[np.array(vector, np.float32)]]

        def get_session_options(self) -> SimpleNamespace:
            return SimpleNamespace(intra_op_num_threads=1)

    with pytest.raises(EngineError):
        OnnxEncoder(Session(), 2).encode([1])


@pytest.mark.parametrize(
    ("vector", "dimensions", "normalized", "expected"),
    [
        ([3, 4, 12], 2, True, [0.6, 0.8]),
        ([3, 4, 12], 2, False, [3, 4]),
        ([3, 4, 12], 3, True, [3, 4, 12]),  # as the model made it
        ([0, 0, 1], 2, True, [0, 0]),
    ],
)
def test_shorter_vectors(vector: list[float], dimensions: int, normalized: bool, expected: list[float]) -> None:
    short = shorten(np.array(vector, np.float32), dimensions, normalized=normalized)
    assert short.dtype == np.float32
    np.testing.assert_allclose(short, expected, rtol=1e-6)


def test_a_text_without_a_token_is_refused(model: EmbeddingModel) -> None:
    bare = EmbeddingModel(
        model.model_id, model.manifest.model_copy(update={"prompt": ""}), model.bundle, _Mute(), model.encoder, 0
    )  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"input\[1\]: the text has no token"):
        bare.ids_of("\u200b", "input[1]")


class _Mute:
    def encode(self, text: str, *, special: bool) -> list[int]:
        return []


def test_served_alone_from_its_bundle(bundle: Path) -> None:
    async def scenario() -> None:
        registry = ModelRegistry()
        await load_models(registry, [(ModelSettings(model_id="tiny", model_alias="other, embed"), bundle)], Settings())
        assert registry.chat_models == []
        assert [served.model_id for served in registry.models] == ["tiny"]
        assert registry.find("embed") is registry.find("other") is registry.find("tiny")
        await registry.close(DrainingError("over"))

    asyncio.run(scenario())


@pytest.mark.parametrize("kernels", ["auto", "onnxruntime"])
def test_the_kernels_that_the_settings_name(bundle: Path, kernels: Literal["auto", "onnxruntime"]) -> None:
    model = load_model(bundle, ModelSettings(model_id="tiny"), EngineSettings(kernels=kernels))
    assert isinstance(model, EmbeddingModel)
    assert isinstance(model.encoder, OnnxEncoder)
    assert bool(kernels_of(model.encoder._session)) == (kernels == "auto")


def test_an_altered_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "model.onnx.data").read_bytes())
    data[100] ^= 1
    (tmp_path / "model.onnx.data").write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        load_model(tmp_path, ModelSettings(model_id="tiny"), EngineSettings())


def chat(model_id: str) -> Manifest:
    source = Source.model_construct(kind="local", model_id=model_id, revision="main")
    return Manifest.model_construct(source=source)


def test_settings_that_do_not_fit_the_kind_of_a_model(bundle: Path) -> None:
    embedding = read_manifest(bundle)
    named = [ModelSettings(model_id=name) for name in ("a/a", "b/b", "tiny")]
    check_kinds(named[1:], [chat("b/b"), embedding])
    check_kinds(named[2:], [embedding])
    check_kinds(named, [chat("a/a"), chat("b/b"), embedding])
    with pytest.raises(ConfigError, match="tiny is an embedding model, which has no tool_format"):
        check_kinds([ModelSettings(model_id="tiny", tool_format="hermes")], [embedding])
    with pytest.raises(ConfigError, match="tiny is an embedding model, which has no generation_config"):
        check_kinds([ModelSettings(model_id="tiny", generation_config="none")], [embedding])
    with pytest.raises(BundleError, match="tiny is an embedding model"):
        chat_manifest(embedding)


def test_bundles_from_before_there_were_kinds_are_of_chat_models(bundle: Path, tmp_path: Path) -> None:
    written = json.loads((bundle / "manifest.json").read_text())
    assert written["kind"] == "embedding"
    for kind in ("chat", "speech"):
        (tmp_path / "manifest.json").write_text(json.dumps(written | {"kind": kind}))
        with pytest.raises(BundleError, match="export the model again"):
            read_manifest(tmp_path)
    of_chat = {
        name: value
        for name, value in written.items()
        if name not in EmbeddingManifest.model_fields.keys() - Manifest.model_fields.keys() | {"kind"}
    }
    of_chat |= {
        "graph": "plain",
        "kv": {"num_layers": 1, "num_kv_heads": 1, "head_dim": 1},
        "special_tokens": {"bos": None, "eos": [1]},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(of_chat))
    assert chat_manifest(read_manifest(tmp_path)).kind == "chat"
