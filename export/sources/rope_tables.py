"""Compute rotary frequencies from the parameters of a configuration, without transformers.

The loaded model must have these frequencies (`rope_config.check_rotary`). Papers: RoPE (arXiv 2104.09864), linear
interpolation (2306.15595), YaRN (2309.00071), LongRoPE (2402.13753). The scaling of Llama 3.1 is that of its release.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from infrs.errors import SourceError

Parameters = dict[str, Any]
Table = tuple[Tensor, float]  # inverse frequencies [head_dim / 2], the factor of cos and sin

_ORIGINAL = "original_max_position_embeddings"
_ALWAYS = {"type", "rope_type", "rope_theta", "partial_rotary_factor", "finetuned", _ORIGINAL}
_LISTS = ("short_factor", "long_factor")
_REQUIRED = {
    "default": set[str](),
    "linear": {"factor"},
    "dynamic": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", _ORIGINAL},
    "yarn": {"factor"},
    "longrope": set(_LISTS),
}
_OLDER = {"su": "longrope"}  # the name in the first files of Phi-3
_OPTIONAL = {
    "yarn": {"attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    "longrope": {"attention_factor", "factor"},
}


def rope_kind(parameters: Parameters) -> str:
    """Return the type of scaling, "default" for none. Raises SourceError if two fields disagree on it."""
    given = (str(parameters[name]) for name in ("rope_type", "type") if parameters.get(name) is not None)
    kinds = {_OLDER.get(kind, kind) for kind in given}
    if len(kinds) > 1:
        raise SourceError(f"config.json gives both {' and '.join(sorted(kinds))} as the type of rope_scaling; keep one")
    return kinds.pop() if kinds else "default"


def check_parameters(parameters: Parameters) -> None:
    """Raise SourceError for parameters that are unknown, missing or not positive numbers."""
    kind = rope_kind(parameters)
    if kind not in _REQUIRED:
        raise SourceError(f"config.json gives rope_type {kind!r:.60}, which infrs does not know")
    for name in sorted(name for name in _REQUIRED[kind] if parameters.get(name) is None):
        raise SourceError(f"config.json scales positions by {kind} and gives no {name}; download the model again")
    known = _ALWAYS | _REQUIRED[kind] | _OPTIONAL.get(kind, set())
    for name, value in parameters.items():
        neutral = value is None or (name not in known and value in (False, 1))
        if neutral or name in ("type", "rope_type", "finetuned", "truncate"):
            continue
        if name not in known:
            raise SourceError(f"config.json gives {name} for rope_type {kind}, which infrs does not know; remove it")
        values = value if isinstance(value, list) and name in _LISTS else [value]
        if not all(_is_positive(one) for one in values):
            raise SourceError(f"config.json gives {name} of rope_type {kind} as {value!r:.60}, not a positive number")
    if kind == "yarn" and bool(parameters.get("mscale")) != bool(parameters.get("mscale_all_dim")):
        raise SourceError("config.json gives only one of mscale and mscale_all_dim, which infrs does not support")


def rope_table(parameters: Parameters, theta: float, width: int, context: int) -> Table:
    """Return the frequencies of checked `parameters`.

    theta: the base if the parameters have none. width: of the part of a head that rotates. context: the longest.
    """
    base = float(parameters.get("rope_theta") or theta)
    plain = base ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    original = float(parameters.get(_ORIGINAL) or context)
    factor = float(parameters.get("factor") or context / original)
    match rope_kind(parameters):
        case "linear":
            return plain / factor, 1.0
        case "llama3":
            return _llama3(parameters, plain, factor, original), 1.0
        case "yarn":
            return _yarn(parameters, plain, base, factor, original), _yarn_attention(parameters, factor)
        case "longrope":
            grown = context / original if parameters.get(_ORIGINAL) else factor
            attention = 1.0 if grown <= 1 else math.sqrt(1 + math.log(grown) / math.log(original))
            divisors = torch.tensor(parameters["short_factor"], dtype=torch.float64)
            return plain / divisors, float(parameters.get("attention_factor") or attention)
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
