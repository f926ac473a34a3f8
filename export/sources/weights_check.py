"""Check that a checkpoint fills its model: no parameter without a tensor, no tensor without a use.

transformers gives a parameter without a tensor random values and ignores a tensor without a parameter. Both make a
model that is not the checkpoint's, and comparing the bundle with the loaded model cannot show it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from infrs.errors import SourceError

from .checkpoint import tensor_file

Shapes = Mapping[str, tuple[int, ...]]
_ROWS = 4096  # compared at a time

# Tensors that no forward pass reads, with their rank; None: any rank.
_HARMLESS: tuple[tuple[str, int | None], ...] = (
    (r"rotary(_emb|_pos_emb)?\.(inv_freq|cos_cached|sin_cached)$", None),  # computed from config.json
    (r"(attn|attention|self_attention)\.bias$", 4),  # a causal mask that GPT-2 and GPT-NeoX once saved
    (r"(attn|attention)\.masked_bias$", 0),  # the value of masked scores, saved with that mask
    (r"(^|\.)(position_ids|token_type_ids)$", 2),  # 0, 1, 2, ... and zeros, saved by old encoders
    (r"^(model\.)?mtp\.", None),  # heads that draft several tokens; the next token does not need them
)
# Heads on an encoder: an embedding is made of the last hidden states alone.
_HEADS = r"^(pooler|cls|lm_head|classifier|predictions|head|decoder|vocab_(transform|layer_norm|projector))\."
_PEFT = re.compile(r"^base_model\.|\.lora_[A-Z]|\.base_layer\.")


def check_filled(
    model_id: str, missing: Iterable[str], unexpected: Iterable[str], shapes: Shapes, *, encoder: bool = False
) -> None:
    """Raise SourceError if a parameter has no tensor, or a tensor has no use.

    missing: parameters and buffers that were not loaded. unexpected: tensors that were not used.
    shapes: of the checkpoint's tensors. encoder: the model has no head, so none is needed.
    """
    missing = sorted(name for name in missing if not (encoder and name.startswith("pooler.")))
    unexpected = sorted(name for name in unexpected if not _harmless(name, shapes, encoder=encoder))
    if (missing or unexpected) and any(map(_PEFT.search, shapes)):
        raise SourceError(
            f"{model_id} holds the weights of a PEFT adapter or wrapper; merge it into its base model "
            "(merge_and_unload, then save_pretrained) and export the result"
        )
    if missing:
        raise SourceError(
            f"the weights of {model_id} lack {_listed(missing)}; download the model again, or check that "
            "its configuration describes these weights"
        )
    if unexpected:
        raise SourceError(
            f"the weights of {model_id} hold {_listed(unexpected)}, which the model of its configuration "
            "does not use; check that the two belong together, or try a newer infrs"
        )


def check_tied(model: PreTrainedModel, directory: Path, shapes: Shapes, rename: Callable[[str], str]) -> None:
    """Raise SourceError if the checkpoint has two different tensors for one shared parameter.

    rename: the name of a parameter for that of a tensor.
    """
    tensors = {rename(name): name for name in shapes}
    for group in _shared(model):
        names = [tensors[name] for name in group if name in tensors]
        for other in names[1:]:
            if not _equal(directory, names[0], other):
                raise SourceError(
                    f"config.json ties {names[0]} and {other}, which differ in the weights; "
                    "set tie_word_embeddings to false in config.json if the model has both"
                )


def _harmless(name: str, shapes: Shapes, *, encoder: bool) -> bool:
    rank = len(shapes[name]) if name in shapes else None
    if encoder and re.search(_HEADS, name):
        return True
    return any(re.search(pattern, name) and wanted in (None, rank) for pattern, wanted in _HARMLESS)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _shared(model: PreTrainedModel) -> list[list[str]]:
    """Return groups of names of parameters that share one tensor in memory."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _equal(directory: Path, one: str, other: str) -> bool:
    """Return whether two tensors of the checkpoint are equal. Read a few rows at a time."""
    with (
        safe_open(tensor_file(directory, one), framework="pt") as first,
        safe_open(tensor_file(directory, other), framework="pt") as second,
    ):
        left, right = first.get_slice(one), second.get_slice(other)
        if left.get_shape() != right.get_shape():
            return False
        rows = left.get_shape()[0]
        return all(
            torch.equal(left[start : start + _ROWS], right[start : start + _ROWS]) for start in range(0, rows, _ROWS)
        )
