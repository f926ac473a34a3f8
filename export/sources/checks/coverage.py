"""Check that a checkpoint fills its model: no parameter without a tensor, no tensor without a use.

transformers gives a parameter without a tensor random values and ignores a tensor without a parameter. Both make a
model that is not the checkpoint's, and comparing the bundle with the loaded model cannot show it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from infrs.errors import SourceError

from ..checkpoint import Stored
from .places import Place, Places

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
_QUANTISED = (
    (r"\.(qweight|qzeros|g_idx)$", "by GPTQ or AWQ"),
    (r"(_scale_inv|\.(weight|input|output)_scale|_zero_point|\.weight_(packed|shape))$", "to FP8 or packed integers"),
    (r"\.(nested_)?(absmax|quant_map)$|\.quant_state\.|\.(SCB|weight_format)$", "by bitsandbytes"),
    (r"\.(scales|biases)$", "by MLX"),
    (r"_(blocks|scales)$", "to MXFP4"),
)
_FLOATS = ("F16", "BF16", "F32", "F64")

Tensors = Mapping[str, Stored]


def match_tensors(
    model_id: str,
    model: nn.Module,
    tensors: Tensors,
    rename: Callable[[str], str] = lambda name: name,
    *,
    known: Mapping[str, Place] | None = None,
    encoder: bool = False,
    config: str = "config.json",
) -> dict[str, Place]:
    """Return the place in the model that each tensor of the checkpoint fills.

    model: the model to fill; its parameters need no memory (device "meta"). rename: the model's name for a tensor's.
    known: all places by name, instead of transformers' own. encoder: the model has no head, so none is needed.
    config: what the model was made from, for errors.
    Raises SourceError, with a name, if tensors and parameters differ in names or shapes, or a tensor holds no floats.
    """
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    places = Places(model, state, {rename(name): shape[0] for name, (shape, _) in tensors.items() if shape})
    found = {name: places.find(rename(name)) if known is None else known.get(name) for name in tensors}
    uses = {name: place for name, place in found.items() if place is not None}
    filled = Counter[int]()
    for place in set(uses.values()):
        filled[id(state[place.parameter])] += place.of(state).numel()
    missing = [name for name, parameter in state.items() if filled[id(parameter)] < parameter.numel()]
    patterns = [*_draft_layers(getattr(model, "config", None)), *_shared_layers(model)]
    needless = re.compile("|".join(patterns)) if patterns else None
    unused = {name for name in tensors.keys() - uses.keys() if not needless or not needless.match(rename(name))}
    unexpected = {name for name in unused if not _harmless(name, tensors, encoder=encoder)}
    if missing and not unexpected and all(state[name] is _head(model) for name in missing):
        ties = json.dumps(getattr(model.config, "tie_word_embeddings", None))
        raise SourceError(
            f"{config}: tie_word_embeddings is {ties}, but the weights of "
            f"{model_id} lack {missing[0]}; set it to true if the embedding is also the head, "
            "or download the model again"
        )
    partial = {name for name in missing if filled[id(state[name])]}
    missing = [f"some matrices of {name}" if name in partial else name for name in missing]
    check_filled(model_id, missing, unexpected, tensors, encoder=encoder)
    first: dict[Place, str] = {}
    for name, place in uses.items():
        if (other := first.setdefault(place, name)) != name:
            raise SourceError(f"the weights of {model_id} hold {other} and {name}, which are one parameter; remove one")
        shape, dtype = tensors[name]
        if dtype not in _FLOATS:
            raise SourceError(
                f"the weights of {model_id} hold {name} as {dtype}, so they are quantised, which infrs does not read; "
                "export the model that they were made from and choose --dtype int4"
            )
        if shape != (wanted := tuple(place.of(state).shape)):
            raise SourceError(
                f"the weights of {model_id} hold {name} of shape {list(shape)}, but {config} asks for "
                f"{list(wanted)}; check that the two belong together"
            )
    return uses


def _draft_layers(config: Any) -> list[str]:  # noqa: ANN401  # a configuration of any model
    """Return patterns for the layers after the last that only draft tokens (DeepSeek V3, GLM 4.5)."""
    count = getattr(config, "num_nextn_predict_layers", None) or 0
    return [rf"model\.layers\.{config.num_hidden_layers + number}\." for number in range(count)]


def _shared_layers(model: nn.Module) -> list[str]:
    """Return patterns for the keys and values of layers that take those of an earlier layer (Gemma 3n, Gemma 4)."""
    shared = (name for name, module in model.named_modules() if getattr(module, "is_kv_shared_layer", False))
    return [rf"{re.escape(name)}\.[kv]_(proj|norm)\." for name in shared]


def _head(model: nn.Module) -> object:
    """Return the weight of the head that scores the vocabulary; None for a model without one."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    return None if output is None else output.weight


def check_filled(
    model_id: str, missing: Iterable[str], unexpected: Iterable[str], tensors: Tensors, *, encoder: bool = False
) -> None:
    """Raise SourceError if a parameter has no tensor, or a tensor has no use.

    missing: parameters and buffers without a tensor. unexpected: tensors that were not used.
    tensors: of the checkpoint. encoder: the model has no head, so none is needed.
    """
    missing = sorted(name for name in missing if not (encoder and name.startswith("pooler.")))
    unexpected = sorted(name for name in unexpected if not _harmless(name, tensors, encoder=encoder))
    if (missing or unexpected) and any(map(_PEFT.search, tensors)):
        raise SourceError(
            f"{model_id} holds the weights of a PEFT adapter or wrapper; merge it into its base model "
            "(merge_and_unload, then save_pretrained) and export the result"
        )
    for name in unexpected:
        if how := next((how for pattern, how in _QUANTISED if re.search(pattern, name)), None):
            raise SourceError(
                f"the weights of {model_id} are quantised {how} ({name}), which infrs does not read; "
                "export the model that they were made from and choose --dtype int4"
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


def _harmless(name: str, tensors: Tensors, *, encoder: bool) -> bool:
    rank = len(tensors[name].shape) if name in tensors else None
    if encoder and re.search(_HEADS, name):
        return True
    return any(re.search(pattern, name) and wanted in (None, rank) for pattern, wanted in _HARMLESS)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
