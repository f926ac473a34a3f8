"""Compute rotary frequencies from the parameters of a configuration, without transformers.

The loaded model must have these frequencies (`rope_config.check_rotary`). Papers: RoPE (arXiv 2104.09864), linear
interpolation (2306.15595), YaRN (2309.00071), LongRoPE (2402.13753). The scaling of Llama 3.1 is that of its release.
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import torch
from torch import Tensor

from infrs.errors import SourceError

Parameters = dict[str, Any]
Table = tuple[Tensor, float]  # inverse frequencies [head_dim / 2], the factor of cos and sin

THETA, PART = "rope_theta", "partial_rotary_factor"
ORIGINAL = "original_max_position_embeddings"
_ALWAYS = {"rope_type", THETA, PART, "finetuned", ORIGINAL}
_LISTS = ("short_factor", "long_factor")
_REQUIRED = {
    "default": set[str](),
    "linear": {"factor"},
    "dynamic": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", ORIGINAL},
    "yarn": {"factor"},
    "longrope": set(_LISTS),
    "proportional": set(),
}
_OPTIONAL = {
    "yarn": {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    "longrope": {"attention_factor", "factor"},
    "proportional": {"factor"},
}


def check_parameters(parameters: Parameters, own: Set[str] = frozenset()) -> None:
    """Raise SourceError for parameters that are unknown, missing or not positive numbers.

    own: further parameters, which the code of the model reads.
    """
    kind = parameters.get("rope_type", "default")
    if kind not in _REQUIRED:
        raise SourceError(f"config.json gives rope_type {kind!r:.60}, which infrs does not know")
    for name in sorted(name for name in _REQUIRED[kind] if parameters.get(name) is None):
        raise SourceError(f"config.json scales positions by {kind} and gives no {name}; download the model again")
    known = _ALWAYS | _REQUIRED[kind] | _OPTIONAL.get(kind, set())
    for name, value in parameters.items():
        neutral = name not in known and (name in own or value in (False, 1))
        if neutral or name in ("rope_type", "finetuned", "truncate"):
            continue
        if name not in known:
            raise SourceError(f"config.json gives {name} for rope_type {kind}, which infrs does not know; remove it")
        values = value if isinstance(value, list) and name in _LISTS else [value]
        if not all(_is_positive(one) for one in values):
            raise SourceError(f"config.json gives {name} of rope_type {kind} as {value!r:.60}, not a positive number")
    if kind == "yarn" and bool(parameters.get("mscale")) != bool(parameters.get("mscale_all_dim")):
        raise SourceError("config.json gives only one of mscale and mscale_all_dim, which infrs does not support")


def rope_table(parameters: Parameters, head_dim: int, context: int) -> Table:
    """Return the frequencies of checked `parameters`, with the base and the part of a head that rotates.

    context: the longest.
    """
    base, part = float(parameters[THETA]), parameters[PART]
    kind = parameters.get("rope_type", "default")
    width = head_dim if kind == "proportional" else int(head_dim * part)
    plain = base ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    original = float(parameters.get(ORIGINAL) or context)
    factor = float(parameters.get("factor") or context / original)
    match kind:
        case "linear":
            return plain / factor, 1.0
        case "llama3":
            return _llama3(parameters, plain, factor, original), 1.0
        case "yarn":
            return _yarn(parameters, plain, base, factor, original), _yarn_attention(parameters, factor)
        case "longrope":
            attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
            divisors = torch.tensor(parameters["short_factor"], dtype=torch.float64)
            return plain / divisors, float(parameters.get("attention_factor") or attention)
        case "proportional":  # the other pairs stay in place
            rotates = torch.arange(len(plain)) < int(part * head_dim // 2)
            return plain * rotates / float(parameters.get("factor") or 1.0), 1.0
        case _:  # dynamic scaling begins beyond the longest context
            return plain, 1.0


def _llama3(parameters: Parameters, plain: Tensor, factor: float, original: float) -> Tensor:
    low, high = float(parameters["low_freq_factor"]), float(parameters["high_freq_factor"])
    if low >= high:
        raise SourceError(f"config.json gives low_freq_factor {low:g}, which is not below high_freq_factor {high:g}")
    turns = original * plain / (2 * math.pi)  # within the original context
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return plain * (kept + (1 - kept) / factor)


def _yarn(parameters: Parameters, plain: Tensor, base: float, factor: float, original: float) -> Tensor:
    width = 2 * len(plain)

    def pair(turns: float) -> float:
        """Return the index of the pair that turns so often within the original context."""
        return width * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    fast, slow = pair(parameters.get("beta_fast") or 32), pair(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        fast, slow = math.floor(fast), math.ceil(slow)
    first, last = max(fast, 0), min(slow, width - 1)
    ramp = ((torch.arange(len(plain), dtype=torch.float64) - first) / ((last - first) or 0.001)).clamp(0, 1)
    return plain * (1 - ramp + ramp / factor)


def _yarn_attention(parameters: Parameters, factor: float) -> float:
    def scale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1

    if parameters.get("attention_factor") is not None:
        return float(parameters["attention_factor"])
    if parameters.get("mscale"):
        return scale(parameters["mscale"]) / scale(parameters["mscale_all_dim"])
    return scale(1.0)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
