"""A tiny Llama in a Hugging Face folder, with a tokenizer and a chat template of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from infrs_export.cli import main
from tiny_tokenizer import VOCAB, write_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, logging

from infrs.cli.command import run
from infrs.errors import ExportError


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared and never changed; `tiny_copy` gives one to change."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
        initializer_range=0.1,  # large enough that predictions are not flat
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder)
    says = {"do_sample": True, "temperature": 0.6, "top_k": 20, "max_new_tokens": 9}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1} | says))
    return folder


@pytest.fixture
def tiny_copy(tiny_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies of the tiny model, by folder name."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny_folder, tmp_path / name))

    return copy


@pytest.fixture
def said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """What the command prints about a model that it refuses: one line, also where a library writes to stderr."""

    def export(model: Path) -> str:
        with pytest.raises(SystemExit) as stop:
            run(main, "infrs-export", [str(model), "--output", str(tmp_path / "cache"), "--quiet"])
        assert stop.value.code == ExportError.exit_code
        line, rest = capfd.readouterr().err.split("\n", 1)
        assert line.startswith("infrs-export: ")
        assert len(line) < 600
        assert not rest
        return line

    return export
