"""Synthetic models for `LLM` in the place of bundles."""

from __future__ import annotations

from fake_classifier import CLASSIFIER_ID, classifier_model
from fake_encoder import EMBEDDING_ID, embedding_model
from fake_server import byte_tokenizer, synthetic_model

from infrs.config.settings import EngineSettings, ModelSettings
from infrs.models.encoders.classifier import ClassifierModel
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.models.registry import OpenModel

ROWS, QUEUE, LENGTH = 2, 2, 512  # of the server and of the program


def open_chat(settings: EngineSettings) -> LoadedModel:
    return synthetic_model(ROWS, QUEUE, LENGTH, exact=False)


def open_embedding(settings: EngineSettings) -> EmbeddingModel:
    return embedding_model(byte_tokenizer([bytes([byte]) for byte in range(256)]), 0.0)


def open_classifier(settings: EngineSettings) -> ClassifierModel:
    return classifier_model(0.0)


OPENED: dict[str, OpenModel] = {EMBEDDING_ID: open_embedding, CLASSIFIER_ID: open_classifier}


def resolve(model: ModelSettings) -> tuple[str, OpenModel]:
    """Replace `infrs.llm.model_settings.resolve`."""
    return model.model_id, OPENED.get(model.model_id, open_chat)
