"""The demo model's text files, and a tokenizer of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from infrs_export.sources.demo import find_gguf
from infrs_export.sources.gguf.tokenizer import write_tokenizer
from text_tokenizers import KINDS

from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def demo_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text files of the demo model's bundle."""
    directory = tmp_path_factory.mktemp("demo")
    write_tokenizer(find_gguf(lambda: None), directory)
    return directory


@pytest.fixture(scope="session")
def demo_tokenizer(demo_text: Path) -> Tokenizer:
    return Tokenizer.load(demo_text)


@pytest.fixture(scope="session")
def demo_compiler(demo_text: Path) -> GrammarCompiler:
    """A compiler of grammars for `demo_tokenizer`."""
    return GrammarCompiler(Tokenizer.load(demo_text), 49_152, (0, 2))


@pytest.fixture(scope="session", params=["demo", *KINDS])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each kind in turn."""
    if request.param == "demo":
        return Tokenizer.load(request.getfixturevalue("demo_text"))
    return Tokenizer(KINDS[request.param]())
