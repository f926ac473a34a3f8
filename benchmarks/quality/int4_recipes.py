"""What int4 could keep at 8 bits, and what measuring inputs buys: the second table of docs/dtypes.md.

    python -m benchmarks.quality.int4_recipes

The demo model in PyTorch, its weights rounded as the exporter rounds them, on the held text; activations stay float32,
so the figures are a little lower than those of a bundle.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from infrs_export.recipes.calibration import Moments, measure_moments
from infrs_export.recipes.levels import EVEN, NONLINEAR
from infrs_export.recipes.quantize import dequantize, quantize
from infrs_export.sources.demo import MODEL_ID
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from benchmarks.lib.models import MODELS_CACHE, bundle
from benchmarks.quality.divergence import Logits, divergence, pieces_of, sample_tokens

HEAD = "lm_head"
RECIPES = {  # what has 8 bits, by the end of a module's name
    "nothing": "$^",
    "output layer and embedding": HEAD,
    "+ attention's value": f"{HEAD}|v_proj",
    "+ query and key": f"{HEAD}|[qkv]_proj",
    "+ down projection": f"{HEAD}|[qkv]_proj|down_proj",
}


def main() -> None:
    model = load_model(resolve(MODEL_ID, revision="main", model_id=None, note=print))
    folder = bundle(MODELS_CACHE, "float32")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = pieces_of(sample_tokens(folder))
    moments = measure_moments(model, lambda text: list(tokenizer.encode(text).ids), 8192)
    original = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reference = np.concatenate(answers(model, pieces))
    print("| 8 bits for | KL, inputs measured | same top token | KL, not measured | same top token | weights, MB |")
    for title, finer in RECIPES.items():
        figures = []
        inputs: tuple[Moments, ...] = (moments, {})
        for measured in inputs:
            model.load_state_dict(original)
            size = round_model(model, finer, measured)
            figures += [f"{kl:.3f} | {top1:.1%}" for kl, top1 in [divergence(reference, answers(model, pieces))]]
        print(f"| {title} | {' | '.join(figures)} | {size / 1e6:.0f} |", flush=True)


def round_model(model: PreTrainedModel, finer: str, measured: Moments) -> int:
    """Round every product's weights in place; the bytes that they take."""
    size = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            levels = EVEN[8] if re.search(finer, name) else NONLINEAR
            weight = module.weight.detach()
            quantized = quantize(weight.numpy(), levels, 32, measured.get(f"{name}.weight"))
            weight.copy_(torch.from_numpy(dequantize(quantized, weight.shape[1])))
            size += quantized.values.nbytes + quantized.scales.nbytes
    return size


def answers(model: PreTrainedModel, pieces: list[np.ndarray]) -> list[Logits]:
    with torch.inference_mode():
        return [model(torch.from_numpy(piece)[None]).logits[0].numpy() for piece in pieces]


if __name__ == "__main__":
    main()
