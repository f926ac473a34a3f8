"""Ways to round weights to 4 bits, by faithfulness and size: the third table of docs/dtypes.md.

    python -m benchmarks.quality.int4_methods [--only REGEX]

The demo model in PyTorch, on the held text and on Python's manual; output layer and embedding have 8 bits in all, and
activations stay float32. What inputs are like is known from the exporter's own text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import click
import numpy as np
import numpy.typing as npt
import torch
from infrs_export.recipes.blocks import find_scales, narrow_each, nearest, to_blocks
from infrs_export.recipes.calibration import lift_silent
from infrs_export.recipes.calibration_text import TEXT
from infrs_export.recipes.gptq import followers, round_with_feedback
from infrs_export.recipes.levels import EVEN, NONLINEAR, Levels
from infrs_export.recipes.quantize import dequantize, quantize
from infrs_export.sources.demo import MODEL_ID
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model
from tokenizers import Tokenizer
from torch import nn

from benchmarks.lib.models import MODELS_CACHE, bundle
from benchmarks.quality.divergence import divergence, manual_tokens, pieces_of, sample_tokens
from benchmarks.quality.int4_recipes import HEAD, answers

Matrix = npt.NDArray[np.float32]
Rounded = tuple[Matrix, float]  # the weights [N, K] as they are computed with, and the bits that one takes
Method = Callable[[Matrix, Matrix], Rounded]  # of weights [N, K] and of inputs [T, K]

TOP = 15  # the highest level of 4 bits
IQ4_NL = Levels("iq4_nl", [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], ends=[-127, 113])


def rule(weight: Matrix, _: Matrix) -> Rounded:
    """The weight of largest magnitude has the lowest level (llama.cpp's Q4_0)."""
    blocks = to_blocks(weight, 32)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scale = half(largest / -8)
    levels = np.clip(np.floor(blocks * inverse(scale) + 8.5), 0, TOP)
    return from_blocks((levels - 8) * scale, weight), 4.5


def searched(weight: Matrix, inputs: Matrix, *, weighed: bool) -> Rounded:
    """Of a few scales that of least squared error, each weight's weighed by its input's mean square or all alike."""
    blocks, squares = to_blocks(weight, 32), np.square(inputs).mean(0, keepdims=True)
    scales = find_scales(blocks, to_blocks(squares if weighed else np.ones_like(squares), 32), EVEN[4])
    scales = narrow_each(scales)[..., None]
    return from_blocks(nearest(blocks, scales, EVEN[4]) * scales, weight), 4.5


def zero_point(weight: Matrix, inputs: Matrix) -> Rounded:
    """A scale for each block and which level is zero (`MatMulNBits` with zero points), searched and weighed."""
    blocks, weighing = to_blocks(weight, 32), to_blocks(np.square(inputs).mean(0, keepdims=True), 32)
    low, high = np.minimum(blocks.min(-1, keepdims=True), 0), np.maximum(blocks.max(-1, keepdims=True), 0)
    best, least = blocks, np.full(low.shape, np.inf, np.float32)
    for narrower in (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1):
        scale = (high - low) * narrower / TOP
        zero = np.clip(np.rint(-low * narrower * inverse(scale)), 0, TOP)
        levels = np.clip(np.rint(blocks * inverse(scale) + zero), 0, TOP) - zero
        norm = (weighing * levels * levels).sum(-1, keepdims=True)
        rounded = levels * half((weighing * levels * blocks).sum(-1, keepdims=True) * inverse(norm))
        error = (np.square(blocks - rounded) * weighing).sum(-1, keepdims=True)
        best, least = np.where(error < least, rounded, best), np.minimum(error, least)
    return from_blocks(best, weight), 4 + 20 / 32


def lowest_value(weight: Matrix, inputs: Matrix, *, size: int) -> Rounded:
    """A scale and a lowest value for each block, in 16 bits each (llama.cpp's Q4_1), searched and weighed."""
    blocks, weighing = to_blocks(weight, size), to_blocks(np.square(inputs).mean(0, keepdims=True), size)
    scale, low = map(half, fitted(blocks, weighing))
    return from_blocks(on_levels(blocks, scale, low), weight), 4 + 32 / size


def k_quant(weight: Matrix, inputs: Matrix) -> Rounded:
    """Scale and lowest value of a block in 6 bits, relative to those of eight blocks (llama.cpp's Q4_K)."""
    blocks, weighing = to_blocks(weight, 32), to_blocks(np.square(inputs).mean(0, keepdims=True), 32)
    scale, low = fitted(blocks, weighing)
    scale, low = in_six_bits(scale), -in_six_bits(np.maximum(-low, 0))
    return from_blocks(on_levels(blocks, scale, low), weight), 4.5


def hqq(weight: Matrix, _: Matrix, *, size: int) -> Rounded:
    """Half-quadratic quantisation (Badri and Shaji, 2023) as published: no data, norm 0.7, at most 20 steps."""
    blocks = to_blocks(weight, size)
    low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
    steps = np.minimum(TOP * inverse(high - low), 2e4)  # levels by unit, the inverse of a scale
    zero = -low * steps
    best, beta = np.inf, 10.0
    for _step in range(20):
        levels = np.clip(np.rint(blocks * steps + zero), 0, TOP)
        error = blocks - (levels - zero) * inverse(steps)
        size_of_error = np.abs(error)
        with np.errstate(divide="ignore"):
            shrunk = np.sign(error) * np.maximum(size_of_error - size_of_error**-0.3 / beta, 0)
        if not size_of_error.mean() < best:
            break
        best, kept = size_of_error.mean(), zero
        zero = (levels - (blocks - shrunk) * steps).mean(-1, keepdims=True)
        beta *= 1.01
    scale = half(inverse(steps))
    return from_blocks(on_levels(blocks, scale, -half(kept) * scale), weight), 4 + 32 / size


def passed_on(weight: Matrix, inputs: Matrix, *, segment: int, shrinkage: float, levels: Levels = EVEN[4]) -> Rounded:
    """Round like the exporter: GPTQ within segments of inputs, with a shrinkage factor (`export.recipes.gptq`)."""
    size = min(segment, weight.shape[1])
    segments = to_blocks(inputs, size).transpose(1, 0, 2)
    moments = lift_silent(segments.transpose(0, 2, 1) @ segments / np.float32(len(inputs)))
    rounded, scales = round_with_feedback(weight, moments, followers(moments, shrinkage), levels, 32)
    return from_blocks(rounded * scales[..., None], weight), 4.5


METHODS: dict[str, Method] = {
    "scales by rule, as Q4_0": rule,
    "scales searched, equal input weights": partial(searched, weighed=False),
    "scales searched, inputs weighted": partial(searched, weighed=True),
    "4-bit zero point, blocks of 32": zero_point,
    "16-bit minimum, blocks of 64": partial(lowest_value, size=64),
    "16-bit minimum, blocks of 32": partial(lowest_value, size=32),
    "k-quant, as Q4_K": k_quant,
    "HQQ, blocks of 64": partial(hqq, size=64),
    "HQQ, blocks of 32": partial(hqq, size=32),
    "GPTQ, shrinkage factor 0.99": partial(passed_on, segment=1536, shrinkage=0.99),
    "GPTQ, shrinkage factor 0.8": partial(passed_on, segment=1536, shrinkage=0.8),
    "GPTQ, shrinkage factor 0.5": partial(passed_on, segment=1536, shrinkage=0.5),
    "GPTQ, shrinkage factor 0.25": partial(passed_on, segment=1536, shrinkage=0.25),
    "GPTQ, shrinkage factor 0.5, segments of 768": partial(passed_on, segment=768, shrinkage=0.5),
    "GPTQ, nonlinear levels, 0.5, segments of 768": partial(passed_on, segment=768, shrinkage=0.5, levels=NONLINEAR),
    "GPTQ, IQ4_NL's levels, 0.5, segments of 768": partial(passed_on, segment=768, shrinkage=0.5, levels=IQ4_NL),
    "GPTQ, shrinkage factor 0.5, segments of 512": partial(passed_on, segment=512, shrinkage=0.5),
    "GPTQ, shrinkage factor 0.5, segments of 128": partial(passed_on, segment=128, shrinkage=0.5),
}


def fitted(blocks: Matrix, weighing: Matrix) -> tuple[Matrix, Matrix]:
    """Scale and lowest value of each block [N, B, 1], refitted by least squares from a few ranges."""
    low, high = np.minimum(blocks.min(-1, keepdims=True), 0), np.maximum(blocks.max(-1, keepdims=True), 0)
    best = (high - low) / TOP, low
    least = np.full(low.shape, np.inf, np.float32)
    total, mean = weighing.sum(-1, keepdims=True), (weighing * blocks).sum(-1, keepdims=True)
    for narrower in (1.0, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1):
        scale, start = (high - low) * narrower / TOP, low * narrower
        for _again in range(2):
            levels = np.clip(np.rint((blocks - start) * inverse(scale)), 0, TOP)
            first = (weighing * levels).sum(-1, keepdims=True)
            second = (weighing * levels * levels).sum(-1, keepdims=True)
            both = (weighing * levels * blocks).sum(-1, keepdims=True)
            scale = np.maximum((total * both - first * mean) * inverse(total * second - first * first), 0)
            start = (mean - scale * first) / total
        error = (np.square(blocks - on_levels(blocks, scale, start)) * weighing).sum(-1, keepdims=True)
        better = error < least
        best = np.where(better, scale, best[0]), np.where(better, start, best[1])
        least = np.minimum(error, least)
    return best


def on_levels(blocks: Matrix, scale: Matrix, low: Matrix) -> Matrix:
    levels = np.clip(np.rint((blocks - low) * inverse(scale)), 0, TOP)
    return np.asarray(levels * scale + low, np.float32)


def in_six_bits(values: Matrix) -> Matrix:
    """Values [N, B, 1], not below zero, in 63 steps of the largest of eight."""
    padded = to_blocks(values[..., 0], 8)
    step = half(padded.max(-1, keepdims=True) / 63)
    rounded: Matrix = (np.rint(padded * inverse(step)) * step).reshape(len(values), -1)[:, : values.shape[1], None]
    return rounded


def half(values: npt.NDArray[np.floating]) -> Matrix:
    return values.astype(np.float16).astype(np.float32)


def inverse(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    inverted: npt.NDArray[np.floating] = np.divide(1, values, out=np.zeros_like(values), where=values != 0)
    return inverted


def from_blocks(blocks: Matrix, weight: Matrix) -> Matrix:
    return blocks.reshape(len(weight), -1)[:, : weight.shape[1]]


@click.command()
@click.option("--only", default="", help="Regular expression: run the methods with a matching name.")
def main(only: str) -> None:
    """Print a line for each method."""
    model = load_model(resolve(MODEL_ID, revision="main", model_id=None, note=print))
    folder = bundle(MODELS_CACHE, "float32")
    texts = [pieces_of(read(folder)) for read in (sample_tokens, manual_tokens)]
    truths = [np.concatenate(answers(model, pieces)) for pieces in texts]
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    original = {name: module.weight.detach().clone() for name, module in linears.items()}
    taken_in: dict[str, list[Matrix]] = {name: [] for name in linears}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: taken_in[name].append(inputs[0][0].numpy()))
        for name, module in linears.items()
        if not name.endswith(HEAD)
    ]
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids
    answers(model, pieces_of(np.array(tokens, np.int64)))
    for hook in hooks:
        hook.remove()
    print("| method | bits a weight | KL, held text | same top token | KL, manual | same top token |")
    for title, method in METHODS.items():
        if not re.search(only, title):
            continue
        for name, module in linears.items():
            weight = original[name].numpy()
            if name.endswith(HEAD):
                rounded = dequantize(quantize(weight, EVEN[8], 32), weight.shape[1])
            else:
                rounded, bits = method(weight, np.concatenate(taken_in[name]))
            module.weight.data.copy_(torch.from_numpy(rounded))
        found = [divergence(truth, answers(model, pieces)) for truth, pieces in zip(truths, texts, strict=True)]
        figures = " | ".join(f"{kl:.3f} | {top1:.1%}" for kl, top1 in found)
        print(f"| {title} | {bits:g} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
