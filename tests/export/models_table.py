"""Write the table of docs/models.md: each family with what the tests measure on tiny random models.

PYTHONPATH=tests:tests/export python tests/export/models_table.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from arch_models import FUSED, MIXTURES, RECURRENT, VOCAB, make_model
from arch_runner import FusedRunner
from infrs_export.graph.convert import convert
from infrs_export.graph.fusions.families import FAMILIES
from infrs_export.recipes.recipe import lowering
from numpy.typing import NDArray
from real_templates import chat_template
from torch import from_numpy, inference_mode, set_num_threads

from infrs.bundle.manifest import Dtype
from infrs.text.reasoning.tags import find_tags
from infrs.text.tools.formats import FORMATS, choose_format

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
HEADER = "| model type | class | kind | variants in tests | difference | KL int8 | KL int4 | tool calls | reasoning |"
# The chat template of a well-known model of a family, from tests/templates.
_TEMPLATES = {
    "apertus": "apertus",
    "cohere": "aya-expanse",
    "cohere2": "command-r7b-tool-use",
    "deepseek_v3": "deepseek-v3.1",
    "ernie4_5": "ernie-4.5",
    "exaone4": "exaone-4",
    "gemma2": "gemma-2",
    "gemma3_text": "gemma-3",
    "gemma3n_text": "gemma-3",
    "gemma4_text": "gemma-4",
    "glm4": "glm-4-0414",
    "glm4_moe": "glm-4.6",
    "glm4_moe_lite": "glm-4.7-flash",
    "gpt_oss": "gpt-oss",
    "granite": "granite-3.3",
    "granitemoe": "granite-4.0",
    "hunyuan_v1_moe": "hunyuan-a13b",
    "llama": "llama-3.1",
    "minimax_m2": "minimax-m2",
    "ministral3": "ministral-3-reasoning",
    "mistral": "mistral-nemo",
    "olmo2": "olmo-2",
    "olmo3": "olmo-3.1",
    "phi3": "phi-4-mini",
    "qwen2": "qwen-2.5",
    "qwen3": "qwen-3",
    "qwen3_moe": "qwen-3-instruct-2507",
    "seed_oss": "seed-oss",
    "smollm3": "smollm-3",
    "solar_open": "solar-open",
}
_LENGTH = 35  # tokens, more than every window of the tiny models


def rows() -> Iterator[str]:
    """Yield the rows of the table, by model type. The measured columns hold the worst of a family's variants."""
    for model_type in sorted(FAMILIES):
        names = [name for name, (kind, _) in FUSED.items() if kind == model_type]
        exact, *losses = (max(_measured(name, dtype) for name in names) for dtype in ("float32", "int8", "int4"))
        variants = ", ".join(variant for name in names if (variant := name.partition("-")[2]))
        cells = [
            f"`{model_type}`",
            f"`{FAMILIES[model_type].architecture}`",
            _kind(names),
            variants,
            f"{exact:.0e}",
            *(f"{loss:.3f}" for loss in losses),
            *_format(model_type),
        ]
        yield f"| {' | '.join(cells)} |"


def _kind(names: list[str]) -> str:
    kinds = {"hybrid": RECURRENT, "experts": MIXTURES}
    return ", ".join(kind for kind, models in kinds.items() if not models.keys().isdisjoint(names)) or "dense"


def _measured(name: str, dtype: Dtype) -> float:
    """Return the largest difference of the logits in float32, or the mean KL divergence in nats."""
    model = make_model(*FUSED[name])
    ids = np.random.default_rng(1).integers(3, VOCAB, (1, _LENGTH))
    with tempfile.TemporaryDirectory() as folder, inference_mode():
        directory = Path(folder)
        expected = model(from_numpy(ids), use_cache=False).logits[0].numpy()
        actual = FusedRunner(directory, convert(model, directory, lowering(dtype))).run(ids)
    if dtype == "float32":
        return float(np.abs(actual - expected).max())
    wanted, given = _log_softmax(expected), _log_softmax(actual)
    return float((np.exp(wanted) * (wanted - given)).sum(axis=-1).mean())


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _format(model_type: str) -> tuple[str, str]:
    """Return the tool format and the reasoning tags of the family's template."""
    if model_type not in _TEMPLATES:
        return "", ""
    template = chat_template(_TEMPLATES[model_type])
    tags = find_tags(template)
    chosen = choose_format(template)
    name = next((name for name, each in FORMATS.items() if each == chosen), "derived")
    return name, "" if tags is None else f"`{tags.open.strip()}`".replace("|", "\\|")


def write() -> None:
    """Replace the table of the document."""
    before, _, rest = DOCUMENT.read_text().partition(HEADER)
    after = rest.partition("\n\n")[2]
    columns = HEADER.count("|") - 1
    table = "\n".join([HEADER, "| --- " * columns + "|", *rows()])
    DOCUMENT.write_text(f"{before}{table}\n\n{after}")


if __name__ == "__main__":
    set_num_threads(1)
    write()
    sys.stdout.write(f"wrote {DOCUMENT}\n")
