"""The endpoints that the lines of a batch may name."""

from __future__ import annotations

from typing import Literal

Endpoint = Literal[
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/score"
]
