"""The code of docs/using/python.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import local_model
import pytest
from fake_classifier import CLASSIFIER_ID
from fake_encoder import EMBEDDING_ID

from infrs.config.settings import ModelSettings
from infrs.llm import async_llm
from infrs.models.registry import OpenModel

BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (Path(__file__).parents[2] / "docs/using/python.md").read_text(), re.M | re.S
)
METHODS = ("generate", "chat", "embed", "score", "classify", "stream", "stream_chat")


def resolve(model: ModelSettings) -> tuple[str, OpenModel]:
    """Return a synthetic model of the same kind."""
    kinds = {"sentence-transformers": EMBEDDING_ID, "cross-encoder": CLASSIFIER_ID}
    kind = kinds.get(model.model_id.partition("/")[0], model.model_id)
    return local_model.resolve(model.model_copy(update={"model_id": kind}))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_runs(block: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(async_llm, "resolve", resolve)
    exec(compile(block, "docs/using/python.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.strip()


def test_each_kind_of_use_has_a_block() -> None:
    text = "".join(BLOCKS)
    assert all(f"llm.{name}(" in text for name in METHODS)
