"""One wrong value in config.json ends in a sentence that names it, or in a bundle that passes the parity check."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arch_models import FUSED, make_model
from infrs_export.pipeline import export_model
from tiny_tokenizer import VOCAB, write_tokenizer

from infrs.errors import ExportError

ABSENT = object()
VALUES: tuple[Any, ...] = (
    *(None, ABSENT, "nope", "", -1, 0, 1, 7, 1.5, -0.5, 10**30, 1 << 63, 1e308, math.nan, math.inf),
    *(True, False, [], [1], {}, {"a": 1}),
)
ARCHITECTURES = ("llama-llama3", "gemma3", "granite", "olmo", "phi3-longrope", "gpt2", "smollm3")
QUICK = 4  # mutations of each architecture


def mutations(fields: dict[str, Any], generator: random.Random, count: int | None) -> list[tuple[str, Any]]:
    """Pairs of a field and its wrong value: all, or `count` of them."""
    pairs = [(name, value) for name in sorted(fields) for value in VALUES if name != "transformers_version"]
    return pairs if count is None else generator.sample(pairs, count)


def outcome(folder: Path, cache: Path) -> str:
    """The sentence of a refusal, empty for a bundle. Any other exception fails the test."""
    try:
        export_model(str(folder), output=cache, force=True, progress=False, dtype="float32")
    except ExportError as error:
        return str(error)
    return ""


def is_clear(line: str, name: str) -> bool:
    """Return whether the sentence names the field, or the tensors that contradict it."""
    return line.isprintable() and len(line) < 600 and (name in line or line.startswith("the weights of "))


@pytest.mark.slow
@pytest.mark.nightly("configurations with a wrong value")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_wrong_value_is_named_or_harmless(
    tmp_path: Path, name: str, full: bool, figure: Callable[[str], None]
) -> None:
    model_type, changes = FUSED[name]
    whole, folder = tmp_path / "whole", tmp_path / "model"
    make_model(model_type, {**changes, "vocab_size": VOCAB}).save_pretrained(whole)
    write_tokenizer(whole)
    fields = json.loads((whole / "config.json").read_text())
    unclear, refused = {}, 0
    pairs = mutations(fields, random.Random(name), None if full else QUICK)
    for field, value in pairs:
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        rest = {other: fields[other] for other in fields if other != field}
        (folder / "config.json").write_text(json.dumps(rest if value is ABSENT else {**rest, field: value}))
        if line := outcome(folder, tmp_path / "cache"):
            refused += 1
            if not is_clear(line, field):
                unclear[field, repr(value)] = line
    assert unclear == {}
    figure(f"{len(pairs)} values, {refused} refused, {len(pairs) - refused} exported with parity")
