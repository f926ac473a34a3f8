"""Models that are named by their paths: exported by the first server, found by the second."""

from __future__ import annotations

from pathlib import Path

import pytest
from arch_models import make_model
from embedding_models import make_embedding_model
from live_server import Server, serving
from tiny_tokenizer import VOCAB, write_tokenizer

pytestmark = pytest.mark.slow


def served(server: Server) -> list[str]:
    """Ask both models, by the ids that the server lists."""
    client = server.client()
    chat, embedding = ids = [model.id for model in client.models.list()]
    answer = client.chat.completions.create(model=chat, messages=[{"role": "user", "content": "Sea"}], max_tokens=3)
    assert (answer.model, answer.usage and answer.usage.completion_tokens) == (chat, 3)
    assert len(client.embeddings.create(model=embedding, input="sea").data[0].embedding) == 64
    return ids


def test_folders_are_exported_once(tmp_path: Path) -> None:
    chat, embedding = tmp_path / "tiny-chat", make_embedding_model(tmp_path / "tiny-embedding")
    make_model("llama", {"vocab_size": VOCAB, "head_dim": 16}).save_pretrained(chat)
    write_tokenizer(chat)
    (tmp_path / "elsewhere").mkdir()
    options = ("--threads", "1", "--cache-dir", tmp_path / "cache")
    with serving("./tiny-chat/", "--models", "tiny-embedding", *options, folder=tmp_path) as server:
        assert served(server) == ["tiny-chat", "tiny-embedding"]
    assert sum("exporting it" in line for line in server.lines) == 2
    with serving("--model", "../tiny-chat", "--models", embedding, *options, folder=tmp_path / "elsewhere") as server:
        assert served(server) == ["tiny-chat", "tiny-embedding"]
    assert not any("xport" in line for line in server.lines)
    assert [" int8, " in line for line in server.lines if "serves" in line] == [True, False]
