"""Cross-encoders through the export and the server's model, compared with transformers."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from classifier_models import make_classifier
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from infrs_export.pipeline import export_model
from infrs_export.sources.sequence_classifier import activation_of, has_token_types, labels_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedTokenizerFast

from infrs.api.rerank.rank import classify_texts, rerank_pairs, score_pairs
from infrs.api.rerank.request import ClassifyRequest, RerankRequest, ScoreRequest
from infrs.bundle.manifest import ClassifierManifest, Dtype, read_manifest
from infrs.config.settings import EngineSettings, ModelSettings
from infrs.errors import BundleError, ExportError, RequestError, SourceError
from infrs.models.encoders.classifier import ClassifierModel, load_classifier
from infrs.models.encoders.service import EncoderService
from infrs.models.load import load_model
from infrs.text.tokenizer import Tokenizer

QUERY = "Which boat?"
TEXTS = ("The supply boat.", "é 😀", "12 / 0.8 = 15 m", "a")
WAIT = 60.0


def export(folder: Path, cache: Path, **options: Any) -> Path:
    return export_model(str(folder), output=cache, progress=False, **options)


def opened(bundle: Path) -> ClassifierModel:
    model = load_model(bundle, ModelSettings(model_id="tiny"), EngineSettings(threads=1))
    assert isinstance(model, ClassifierModel)
    return model


def logits_of(model: ClassifierModel, texts: tuple[str, ...]) -> list[float]:
    pairs = rerank_pairs(model, RerankRequest(model="tiny", query=QUERY, documents=[*texts]))
    return [float(model.encoder.encode(pair)[0]) for pair in pairs]


def reference(folder: Path, texts: tuple[str, ...]) -> list[float]:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").train(False)
    names = inspect.signature(model.forward).parameters
    logits = []
    for text in texts:
        pair = tokenizer(QUERY, text, return_tensors="pt", return_token_type_ids=True)
        inputs = {name: values for name, values in pair.items() if name in names}
        if model.config.to_dict().get("type_vocab_size") == 1:
            inputs.pop("token_type_ids", None)  # a published tokenizer of such a model gives none
        with torch.inference_mode():
            logits.append(float(model(**inputs).logits[0, 0]))
    return logits


@pytest.mark.parametrize(
    "architecture", ["bert", "roberta", "distilbert", "modernbert", "deberta-v2", "albert", "electra", "mpnet"]
)
def test_scores_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "tiny", architecture)
    model = opened(export(folder, tmp_path / "cache"))
    expected = reference(folder, TEXTS)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(logits_of(model, TEXTS), expected, atol=2e-5)
    scores = [model.scores_of(np.array([logit], np.float32))[0] for logit in expected]
    np.testing.assert_allclose(scores, torch.sigmoid(torch.tensor(expected)), atol=1e-6)


def test_texts_are_classified_as_transformers_does(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "tiny", num_labels=3)
    model = opened(export(folder, tmp_path / "cache"))
    texts = [*TEXTS, QUERY]
    encoded = classify_texts(model, ClassifyRequest(model="tiny", input=texts))
    scores = [model.scores_of(model.encoder.encode(text)) for text in encoded]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    source = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").train(False)
    with torch.inference_mode():
        logits = torch.cat([source(**tokenizer(text, return_tensors="pt")).logits for text in texts])
    np.testing.assert_allclose(scores, torch.softmax(logits, -1), atol=1e-5)
    with pytest.raises(RequestError, match="has 3 labels, and a score needs a model with one"):
        rerank_pairs(model, RerankRequest(model="tiny", query=QUERY, documents=texts))
    with pytest.raises(RequestError, match="3 labels"):
        score_pairs(model, ScoreRequest(model="tiny", text_1=[QUERY], text_2=texts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("classifier") / "tiny")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return export(folder, folder.parent / "cache")


@pytest.fixture(scope="module")
def model(bundle: Path) -> ClassifierModel:
    return opened(bundle)


@pytest.mark.parametrize(("dtype", "atol"), [("float16", 0.01), ("bfloat16", 0.1), ("int8", 0.2)])
def test_other_dtypes_stay_close(folder: Path, tmp_path: Path, dtype: Dtype, atol: float) -> None:
    model = opened(export(folder, tmp_path, dtype=dtype))
    np.testing.assert_allclose(logits_of(model, TEXTS), reference(folder, TEXTS), atol=atol)


def test_int4_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="classifiers are not offered in int4"):
        export(folder, tmp_path, dtype="int4")


def test_the_manifest_describes_the_scores(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert isinstance(manifest, ClassifierManifest)
    assert (manifest.activation, manifest.labels, manifest.token_types) == ("sigmoid", ("LABEL_0",), True)
    assert manifest.context_length == 64
    assert manifest.parity["num_pairs"] == 16


@pytest.mark.parametrize(
    ("fields", "activation"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
        ({"sentence_transformers": {"version": "5.0.0"}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "identity"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
        ({"num_labels": 2}, "softmax"),
        ({"num_labels": 2, "problem_type": "multi_label_classification"}, "sigmoid"),
    ],
)
def test_the_configuration_decides_the_activation(fields: dict[str, Any], activation: str) -> None:
    assert activation_of(fields, fields.get("num_labels", 1)) == activation


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sentence_transformers": {"activation_fn": "torch.nn.GELU"}}, "names the activation 'torch.nn.GELU'"),
        ({"architectures": ["Qwen3ForSequenceClassification"], "model_type": "qwen3"}, "'qwen3' is not an encoder"),
        ({"is_decoder": True}, "'bert' is not an encoder"),
    ],
)
def test_a_classifier_that_infrs_cannot_export_is_refused(
    folder: Path, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    copy(folder, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(SourceError, match=message):
        export(tmp_path, tmp_path / "cache")


# What tokenizer_config.json says -> whether transformers, in the version that wrote it, gives the types of tokens.
TYPED: dict[str, tuple[dict[str, Any] | None, bool]] = {
    "no file": (None, True),
    "the general class, by 4": ({"tokenizer_class": "PreTrainedTokenizerFast"}, True),
    "the general class, by 5": ({"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}, False),
    "inputs by name": ({"tokenizer_class": "TokenizersBackend", "model_input_names": ["token_type_ids"]}, True),
    "no types by name": ({"tokenizer_class": "BertTokenizer", "model_input_names": ["input_ids"]}, False),
    "BERT, by 4": ({"tokenizer_class": "BertTokenizerFast"}, True),
    "BERT, by 5": ({"tokenizer_class": "BertTokenizer", "backend": "tokenizers"}, True),
    "ALBERT, by 4": ({"tokenizer_class": "AlbertTokenizer"}, True),
    "ALBERT, by 5": ({"tokenizer_class": "AlbertTokenizer", "backend": "tokenizers"}, False),
    "XLM-RoBERTa, by 4": ({"tokenizer_class": "XLMRobertaTokenizerFast"}, False),
    "BERT for generation, by 4": ({"tokenizer_class": "BertGenerationTokenizer"}, False),
    "an unknown class": ({"tokenizer_class": "NoTokenizer"}, True),
}


@pytest.mark.parametrize("name", TYPED)
def test_token_types_are_those_of_the_version_that_saved(name: str, tmp_path: Path) -> None:
    fields, typed = TYPED[name]
    if fields is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
    assert has_token_types(tmp_path, PretrainedConfig(type_vocab_size=2)) == typed
    assert not has_token_types(tmp_path, PretrainedConfig(type_vocab_size=1))


def test_labels_have_names_and_a_bound() -> None:
    assert labels_of(PretrainedConfig(id2label={0: "no", 1: "yes"})) == ("no", "yes")
    with pytest.raises(SourceError, match="gives 5000 labels"):
        labels_of(PretrainedConfig(num_labels=5000))


def copy(folder: Path, target: Path) -> None:
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def test_a_classifier_without_its_head_is_refused(folder: Path, tmp_path: Path) -> None:
    copy(folder, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=r"lack classifier\.weight"):
        export(tmp_path, tmp_path / "cache")


def test_a_graph_with_other_inputs_is_refused(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert isinstance(manifest, ClassifierManifest)
    with pytest.raises(BundleError, match="not those of a classifier"):
        load_classifier(bundle, manifest.model_copy(update={"token_types": False}), Tokenizer.load(bundle), 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.text(max_size=40), second=st.text(max_size=40))
def test_parts_make_the_tokens_of_a_pair(model: ClassifierModel, first: str, second: str) -> None:
    tokenizer: Tokenizer = model.tokenizer
    whole = tokenizer.backend.encode(first, second)
    assert tokenizer.joined(tokenizer.part(first), tokenizer.part(second)) == (whole.ids, whole.type_ids)
    assert tokenizer.joined(tokenizer.part(first))[0] == tokenizer.backend.encode(first).ids
    assert len(whole.ids) == len(tokenizer.part(first).ids) + len(tokenizer.part(second).ids) + 3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_score_has_the_same_bits_in_any_request(model: ClassifierModel, requests: list[list[str]]) -> None:
    alone = dict(zip(TEXTS, logits_of(model, TEXTS), strict=True))
    service = EncoderService(model.encoder, 10)
    bodies = [ScoreRequest(model="tiny", text_1=[QUERY], text_2=texts) for texts in requests]
    futures = [service.submit(score_pairs(model, body)) for body in bodies]
    service.start()
    try:
        got = [[float(vector[0]) for vector in future.result(WAIT)] for future in futures]
    finally:
        service.stop(WAIT)
    assert got == [[alone[text] for text in texts] for texts in requests]
