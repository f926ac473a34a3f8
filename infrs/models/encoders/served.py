"""Models in service that read texts and write none: a worker thread for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

from prometheus_client import Gauge

from infrs.config.settings import EngineSettings
from infrs.core import RequestContext
from infrs.errors import InfrsError
from infrs.metrics import Metrics, ModelMetrics
from infrs.models.encoders.classifier import ClassifierModel, EncodedText
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.encoders.encoder import Encoder, Vector
from infrs.models.encoders.service import EncoderService
from infrs.models.served import ServedModel

Text = TypeVar("Text")


class ServedEncoder(ServedModel, Generic[Text]):
    """A model that computes a vector of each text. Text: the form in which its encoder takes a text."""

    service: EncoderService[Text]
    metrics: ModelMetrics

    def __init__(
        self, encoder: Encoder[Text], settings: EngineSettings, metrics: ModelMetrics, num_open: Gauge
    ) -> None:
        """Start the worker thread. At most `settings.max_queue` requests wait for it. num_open: counts open ones."""
        super().__init__()
        self._max_queue = settings.max_queue
        self.service = EncoderService(encoder, settings.max_queue)
        self.service.start()
        self.metrics = metrics
        self.metrics.bind(num_open).set_function(lambda: self.service.snapshot().num_open)

    async def compute(self, texts: Sequence[Text], context: RequestContext) -> list[Vector]:
        """Return the vectors of texts, in order. To cancel it skips the texts that have not begun.

        Raises RequestTimeoutError at the context's deadline, QueueFullError, DrainingError, EngineError.
        """
        self._check_open()
        try:
            async with asyncio.timeout(context.remaining):
                return await asyncio.wrap_future(self.service.submit(texts))
        except TimeoutError:
            raise context.timeout_error() from None

    @property
    def num_places(self) -> int:
        """See ServedModel."""
        return 1 + self._max_queue

    def _full(self) -> str:
        return f"{self._max_queue} requests for {self.model_id} wait"

    def fail_all(self, error: InfrsError) -> None:
        """See ServedModel."""
        self.service.fail_all(error)


class ServedEmbeddingModel(ServedEncoder[Sequence[int]]):
    """An embedding model in service. It takes the token ids of a text."""

    noun, routes = "an embedding model", "POST /v1/embeddings"
    model: EmbeddingModel

    def __init__(self, model: EmbeddingModel, settings: EngineSettings, metrics: Metrics) -> None:
        """Start the worker thread."""
        self.model = model
        super().__init__(model.encoder, settings, ModelMetrics(metrics, model.model_id), metrics.embedding_open)


class ServedClassifier(ServedEncoder[EncodedText]):
    """A classifier in service. It takes texts and pairs of texts."""

    noun, routes = "a classifier", "POST /v1/rerank or /classify"
    model: ClassifierModel

    def __init__(self, model: ClassifierModel, settings: EngineSettings, metrics: Metrics) -> None:
        """Start the worker thread."""
        self.model = model
        super().__init__(model.encoder, settings, ModelMetrics(metrics, model.model_id), metrics.classifier_open)
