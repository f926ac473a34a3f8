"""The models of a server as `load_models` opens them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import embedding_model
from fake_server import MANIFEST, byte_tokenizer, synthetic_model

from infrs.bundle.manifest import AnyManifest
from infrs.config.settings import ModelSettings, Settings
from infrs.errors import EngineError
from infrs.machine.memory import Memory
from infrs.models import load
from infrs.models.registry import ModelRegistry

FREE = Memory(total=9000, available=6000)
_EMBEDDING = embedding_model(byte_tokenizer([bytes([byte]) for byte in range(256)]), 0.0)


def shares(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> list[Memory | None]:
    """Load models of these kinds. Return the memory that each may use; None is all that is free."""
    received: list[Memory | None] = []

    def manifest(bundle: Path) -> AnyManifest:
        like: AnyManifest = MANIFEST if kinds[int(bundle.name)] == "chat" else _EMBEDDING.manifest
        return like.model_copy(update={"source": like.source.model_copy(update={"model_id": f"m/{bundle.name}"})})

    def open_model(bundle: Path, _model: Any, _engine: Any, memory: Memory | None = None) -> Any:
        received.append(memory)
        return synthetic_model(1, 1, 64, exact=False) if kinds[int(bundle.name)] == "chat" else _EMBEDDING

    async def scenario() -> None:
        registry = ModelRegistry()
        chosen = [(ModelSettings(model_id=f"m/{number}"), Path(str(number))) for number in range(len(kinds))]
        await load.load_models(registry, chosen, Settings())
        assert [entry.model_id for entry in registry.entries] == [model.model_id for model, _ in chosen]
        await registry.close(EngineError("over"))

    for name, value in (("read_manifest", manifest), ("load_model", open_model), ("read_memory", lambda: FREE)):
        monkeypatch.setattr(load, name, value)
    asyncio.run(scenario())
    return received


def test_chat_models_share_the_memory_for_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    third = Memory(3000, 2000)
    assert shares(monkeypatch, "chat", "embedding", "chat", "chat") == [third] * 4


def test_one_chat_model_may_use_all_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shares(monkeypatch, "chat", "embedding") == [None, None]
