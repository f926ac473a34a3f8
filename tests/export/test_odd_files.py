"""Whatever the files of a model hold, an export ends in a bundle or in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from infrs_export.sources import torch_model as load

ODD_FILES: dict[str, tuple[str, str]] = {
    "an empty tokenizer": ("tokenizer.json", "{}"),
    "a list for a tokenizer": ("tokenizer.json", "[]"),
    "no JSON": ("tokenizer.json", "\0"),
    "a list for its configuration": ("tokenizer_config.json", "[]"),
    "a number for added tokens": ("tokenizer_config.json", '{"added_tokens_decoder": 7}'),
    "a list for added tokens": ("tokenizer_config.json", '{"added_tokens_decoder": ["a"]}'),
    "ids for special tokens": ("tokenizer_config.json", '{"additional_special_tokens": 7}'),
    "a token of no type": ("added_tokens.json", '{"a": "b"}'),
    "nesting without end": ("tokenizer_config.json", "[" * 200_000),
    "a list for generation": ("generation_config.json", "[]"),
    "a panic of the tokenizer": (
        "tokenizer.json",
        '{"version": "1.0", "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "added_tokens": [], '
        '"model": {"type": "BPE", "vocab": {}, "merges": []}}',
    ),
    "a damaged index": ("model.safetensors.index.json", "{"),
}
ODD_FIELDS: dict[str, dict[str, Any]] = {
    "no heads": {"num_attention_heads": 0},
    "heads of text": {"num_attention_heads": "four"},
    "no width": {"hidden_size": None},
    "a vocabulary of text": {"vocab_size": "many"},
    "no layers": {"num_hidden_layers": 0},
    "a layer too many": {"num_hidden_layers": 3},
    "a negative context": {"max_position_embeddings": -1},
    "no context": {"max_position_embeddings": None},
    "no such activation": {"hidden_act": "nope"},
    "scaling of text": {"rope_scaling": "much"},
    "no such scaling": {"rope_scaling": {"rope_type": "nope"}},
    "scaling without a factor": {"rope_scaling": {"rope_type": "linear"}},
    "no such parameters": {"rope_parameters": {"rope_type": "nope", "rope_theta": 1e4}},
    "parameters without a factor": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
    "parameters of text": {"rope_parameters": {"rope_type": "linear", "factor": "x", "rope_theta": "y"}},
    "another family": {"model_type": "gpt2"},
    "a wrapper without a text": {"model_type": "gemma3"},
    "a wrapper of a number": {"model_type": "mistral3", "text_config": 7},
    "a recurrent family": {"model_type": "mamba"},
    "a width of heads": {"head_dim": 7},
    "heads without a width": {"head_dim": 0},
    "a context that no memory holds": {"max_position_embeddings": 10**9},
    "a context that is no number": {"max_position_embeddings": float("nan")},
    "labels without end": {"num_labels": 1 << 33},
    "a flag of text": {"attention_bias": "false"},
    "a flag of another number": {"tie_word_embeddings": 7},
    "a token of text": {"eos_token_id": "</s>"},
    "padding beyond the vocabulary": {"pad_token_id": 320},
    "no base": {"rope_theta": None},
    "a vast base": {"rope_theta": 10**30},
    "scaling of nothing": {"rope_scaling": {"a": 1}},
    "a list of scalings": {"rope_scaling": []},
    "half a head": {"num_attention_heads": 2.5},
    "layers of true": {"num_hidden_layers": True},
    "a negative epsilon": {"rms_norm_eps": -1},
    "an epsilon that is no number": {"rms_norm_eps": float("nan")},
    "an epsilon of text": {"rms_norm_eps": "1e-5"},
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_files(kind: str, tiny_copy: Callable[[str], Path], said: Callable[[Path], str]) -> None:
    folder = tiny_copy("odd")
    name, content = ODD_FILES[kind]
    (folder / name).write_text(content)
    assert said(folder)


@pytest.mark.parametrize(
    "name",
    [
        *("chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "generation_config.json"),
        *("tokenizer_config.json", "tokenizer.json", "merges.txt", "additional_chat_templates/rag.jinja"),
    ],
)
def test_a_side_file_that_is_too_large_is_refused_before_it_is_read(
    name: str, tiny_copy: Callable[[str], Path], said: Callable[[Path], str]
) -> None:
    path = tiny_copy("large") / name
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.truncate(1 << 40)  # no disk holds it; only its size is read
    assert f"{path.name} is larger than" in said(path.parents[name.count("/")])


def test_too_many_templates_are_refused(tiny_copy: Callable[[str], Path], said: Callable[[Path], str]) -> None:
    folder = tiny_copy("many")
    (folder / "additional_chat_templates").mkdir()
    for number in range(65):
        (folder / "additional_chat_templates" / f"{number}.jinja").touch()
    assert "65 templates" in said(folder)


def test_a_pipe_is_not_read(tiny_copy: Callable[[str], Path], said: Callable[[Path], str]) -> None:
    folder = tiny_copy("pipe")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert "not a regular file" in said(folder)


@pytest.mark.parametrize("kind", ODD_FIELDS)
def test_fields(kind: str, tiny_copy: Callable[[str], Path], said: Callable[[Path], str]) -> None:
    folder = tiny_copy("odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | ODD_FIELDS[kind]))
    line = said(folder)
    if "model_type" not in ODD_FIELDS[kind]:  # the value, or the tensors that contradict it
        assert any(name in line for name in (*ODD_FIELDS[kind], "rope_type", "factor", "the weights of"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("a"), "KeyError: 'a';"),
        (AttributeError("no such thing\nat all"), "AttributeError: no such thing;"),
        (AssertionError(), "AssertionError;"),
        (OSError(7, "x"), "[Errno 7] x;"),
    ],
)
def test_any_library_error_becomes_one_sentence(
    error: Exception, words: str, tiny_folder: Path, said: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(load, "load_model", fails)
    assert f"could not be exported: {words}" in said(tiny_folder)
