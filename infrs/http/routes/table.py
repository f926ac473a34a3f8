"""The route table: every path, its handler and its request bodies."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from pydantic import BaseModel
from sanic import HTTPResponse, Request

from infrs import __version__
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.batches.request import BatchCreateRequest, FileUpload
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.completions.request import CompletionRequest
from infrs.api.embeddings.request import EmbeddingRequest
from infrs.api.models import LoadRequest, UnloadRequest
from infrs.api.ollama.request import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
)
from infrs.api.output import ndjson, sse
from infrs.api.rerank.request import ClassifyRequest, RerankRequest, ScoreRequest
from infrs.api.responses.request import CompactRequest, ResponsesRequest
from infrs.api.tokens.request import ApplyTemplateRequest, DetokenizeRequest, TokenizeChatRequest, TokenizeRequest
from infrs.http.error_handler import JSON
from infrs.http.openapi import ANTHROPIC_ERROR, OLLAMA_ERROR, Operation, document
from infrs.http.request_guard import RERANK_PATHS, SCORE_PATHS
from infrs.http.routes import (
    anthropic as messages,
)
from infrs.http.routes import (
    completions,
    models,
    ollama,
    responses,
    responses_socket,
    status,
)
from infrs.http.routes import (
    tokens as text_routes,
)
from infrs.http.routes.batches import batches, files
from infrs.http.routes.batches.files import BYTES
from infrs.http.routes.encoders import embeddings, rerank
from infrs.metrics import CONTENT_TYPE

Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]


@dataclass(frozen=True, slots=True)
class Route:
    """An operation and its handler. A GET answers HEAD too."""

    operation: Operation
    handler: Handler

    @property
    def methods(self) -> list[str]:
        """Return the methods for the router."""
        return ["GET", "HEAD"] if self.operation.method == "GET" else [self.operation.method]

    @property
    def name(self) -> str:
        """Return a unique name for the router: several paths may have one handler."""
        return re.sub(r"\W+", "_", f"{self.operation.method} {self.operation.path}")


async def openapi(request: Request) -> HTTPResponse:
    """Return the OpenAPI document."""
    return HTTPResponse(_description(), content_type=JSON)


@cache
def _description() -> bytes:
    return orjson.dumps(document([route.operation for route in ROUTES], __version__))


_ANSWERS = (JSON, sse.CONTENT_TYPE.partition(";")[0])
_LINES = (JSON, ndjson.CONTENT_TYPE)


def _ollama(
    method: str,
    path: str,
    summary: str,
    handler: Handler,
    *bodies: type[BaseModel],
    produces: tuple[str, ...] = (JSON,),
) -> Route:
    """Return a route of Ollama's API."""
    return Route(Operation(method, path, f"{summary} (Ollama's API).", bodies, produces, OLLAMA_ERROR), handler)


ROUTES = (
    Route(
        Operation("POST", "/v1/chat/completions", "Answer a conversation.", (ChatCompletionRequest,), _ANSWERS),
        completions.chat_completions,
    ),
    Route(
        Operation("POST", "/v1/responses", "Answer a conversation as items.", (ResponsesRequest,), _ANSWERS),
        responses.create_response,
    ),
    Route(
        Operation("GET", "/v1/responses", "Open a WebSocket for `response.create` events."),
        responses_socket.connect,
    ),
    Route(
        Operation("POST", "/v1/responses/input_tokens", "Count the tokens of a conversation.", (ResponsesRequest,)),
        responses.input_tokens,
    ),
    Route(
        Operation("POST", "/v1/responses/compact", "Summarise a conversation.", (CompactRequest,)), responses.compact
    ),
    Route(Operation("GET", "/v1/responses/<response_id>", "Return a stored response."), responses.get_response),
    Route(Operation("DELETE", "/v1/responses/<response_id>", "Delete a stored response."), responses.delete_response),
    Route(
        Operation("GET", "/v1/responses/<response_id>/input_items", "List the input items of a response."),
        responses.list_input_items,
    ),
    Route(
        Operation("POST", "/v1/completions", "Continue a text.", (CompletionRequest,), _ANSWERS),
        completions.completions,
    ),
    Route(
        Operation(
            "POST",
            "/v1/messages",
            "Answer a conversation (Anthropic's Messages API).",
            (MessagesRequest,),
            _ANSWERS,
            ANTHROPIC_ERROR,
        ),
        messages.messages,
    ),
    Route(
        Operation(
            "POST",
            "/v1/messages/count_tokens",
            "Count the tokens of a conversation.",
            (CountTokensRequest,),
            error=ANTHROPIC_ERROR,
        ),
        messages.count_tokens,
    ),
    Route(Operation("POST", "/v1/embeddings", "Embed texts.", (EmbeddingRequest,)), embeddings.embeddings),
    *(
        Route(
            Operation("POST", path, "Order documents by their relevance to a query.", (RerankRequest,)), rerank.rerank
        )
        for path in RERANK_PATHS
    ),
    *(Route(Operation("POST", path, "Score pairs of texts.", (ScoreRequest,)), rerank.score) for path in SCORE_PATHS),
    Route(Operation("POST", "/classify", "Classify texts.", (ClassifyRequest,)), rerank.classify),
    Route(
        Operation("POST", "/v1/files", "Upload the requests of a batch.", (FileUpload,), is_upload=True), files.upload
    ),
    Route(Operation("GET", "/v1/files", "List the files."), files.list_files),
    Route(Operation("GET", "/v1/files/<file_id>", "Describe a file."), files.get_file),
    Route(Operation("DELETE", "/v1/files/<file_id>", "Delete a file."), files.delete_file),
    Route(
        Operation("GET", "/v1/files/<file_id>/content", "Return the bytes of a file.", produces=(BYTES,)),
        files.read_file,
    ),
    Route(Operation("POST", "/v1/batches", "Begin a batch.", (BatchCreateRequest,)), batches.create_batch),
    Route(Operation("GET", "/v1/batches", "List the batches."), batches.list_batches),
    Route(Operation("GET", "/v1/batches/<batch_id>", "Describe a batch."), batches.get_batch),
    Route(Operation("POST", "/v1/batches/<batch_id>/cancel", "Cancel a batch."), batches.cancel_batch),
    Route(
        Operation(
            "POST", "/tokenize", "Return the token ids of a text or a prompt.", (TokenizeRequest, TokenizeChatRequest)
        ),
        text_routes.tokenize,
    ),
    Route(
        Operation("GET", "/tokenizer_info", "Return the special tokens and the chat template."),
        text_routes.tokenizer_info,
    ),
    Route(
        Operation("POST", "/detokenize", "Return the text of token ids.", (DetokenizeRequest,)), text_routes.detokenize
    ),
    Route(
        Operation("POST", "/apply-template", "Return the prompt of a conversation.", (ApplyTemplateRequest,)),
        text_routes.apply_template,
    ),
    _ollama("POST", "/api/chat", "Answer a conversation", ollama.chat, OllamaChatRequest, produces=_LINES),
    _ollama("POST", "/api/generate", "Answer a prompt", ollama.generate, OllamaGenerateRequest, produces=_LINES),
    _ollama("POST", "/api/embed", "Embed texts", ollama.embed, OllamaEmbedRequest),
    _ollama("POST", "/api/embeddings", "Embed a text", ollama.embed_one, OllamaEmbeddingsRequest),
    _ollama("POST", "/api/show", "Describe a model", ollama.show, OllamaShowRequest),
    _ollama("GET", "/api/tags", "List the models", ollama.tags),
    _ollama("GET", "/api/ps", "List the loaded models", ollama.running),
    _ollama("GET", "/api/version", "Return the version of the API", ollama.version),
    Route(Operation("GET", "/v1/models", "List the models."), models.list_models),
    Route(Operation("GET", "/v1/models/<model_id:path>", "Return a model by its id."), models.get_model),
    Route(Operation("POST", "/v1/models/load", "Load a model, or its new bundle.", (LoadRequest,)), models.load_model),
    Route(Operation("POST", "/v1/models/unload", "Unload a model.", (UnloadRequest,)), models.unload_model),
    Route(Operation("GET", "/health", "Liveness: whether the process answers."), status.health),
    Route(Operation("GET", "/ready", "Readiness: whether requests are served."), status.ready),
    Route(Operation("GET", "/props", "Describe the models, settings and versions."), status.props),
    Route(
        Operation("GET", "/metrics", "Return Prometheus metrics.", produces=(CONTENT_TYPE.partition(";")[0],)),
        status.metrics,
    ),
    Route(Operation("GET", "/openapi.json", "Return this document."), openapi),
)
