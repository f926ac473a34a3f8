"""Refuse fields of config.json that would change the arithmetic and that transformers ignores.

transformers keeps every field of the file and says nothing of those that the code of the model never reads. A model
with `final_logit_softcapping` under a model type without soft caps would be loaded without them.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Set
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from infrs.errors import SourceError

from ...graph.fusions.families import FAMILIES

# Names of fields that change the arithmetic in some model.
_ARITHMETIC = re.compile(
    r"rope|rotary|theta$|^(use_)?alibi|ntk|logn|position_embedding_type|scale|scaling|multiplier|mup|query_pre_attn"
    r"|temperature_tun|normali[sz]|_norm|norm_|unit_offset|eps(ilon)?$|window|sliding|chunk_size|layer_types|sinks?$"
    r"|dim_model_base|bidirectional|is_causal|soft_?cap|logit_?cap|clip|clamp|expert|moe|residual|interleave|hidden_act|activation"
)
_OTHER = re.compile(r"drop|init|loss|smooth|fp32|fused|kernel|summary|pooler|classifier")  # training, and other heads
# Fields that models of several families carry without an effect.
_HARMLESS = {
    "max_window_layers",
    "norm_before_gate",
    "rms_norm",
    "rotary",
    "scale_attn_weights",
    "use_rms_norm",
    "use_rmsnorm",
}
_WORDS = re.compile(r"position_embedding_type|hidden_act|activation")  # the fields in which a text counts
_LAYERS = ("full_attention", "sliding_attention")
_POSITIONS = ("absolute", "rope", "rotary", "none")
# Spellings of one field. A second one is ignored where it has the value in use, or where the model's own is given.
_SAME = (r"theta$|rotary_emb_base|rope_(freq_)?base", r"partial_rotary_factor|rotary_pct|rope_pct", r"window")
_REPLACED = (r"eps(ilon)?$", r"hidden_act$|activation")


def check_fields(given: dict[str, Any], model: PreTrainedModel) -> None:
    """Raise SourceError, with the name, for a field of `given` that looks arithmetic and that `model` never reads."""
    known = _fields(type(model)) | _fields(type(model.config))
    own = {name for name in given if name in known}
    layers, family = given.get("layer_types"), FAMILIES.get(model.config.model_type)
    for kind in layers if isinstance(layers, list) else ():
        if kind not in (*_LAYERS, *(family.recurrent if family else ())):
            raise SourceError(f"config.json gives {kind!r:.60} in layer_types, which infrs cannot export")
    for name, value in given.items():
        if name in known or name in _HARMLESS or not _ARITHMETIC.search(name) or _OTHER.search(name):
            continue
        if not (_is_neutral(name, value, given) or _is_spelling(name, value, own, model.config)):
            raise SourceError(
                f"config.json gives {name} as {value!r:.60}, which transformers ignores in {model.config.model_type} "
                "models; check that the model type is right, or remove the field if it has no effect"
            )


def _is_neutral(name: str, value: Any, given: dict[str, Any]) -> bool:  # noqa: ANN401  # of a JSON file
    """Return whether a field has no effect at this value."""
    longest = given.get("max_position_embeddings")
    match None if value == {} else value:  # the pattern {} would match every object
        case bool():
            return value is (name == "is_causal")
        case None | [] | 0 | 1:
            return True
        case str():
            return not _WORDS.search(name) or value in _POSITIONS
        case int():
            return name == "sliding_window" and isinstance(longest, int) and value >= longest
        case list():
            return name == "layer_types" and all(item == _LAYERS[0] for item in value)
    return False


def _is_spelling(name: str, value: object, own: Set[str], config: PretrainedConfig) -> bool:
    """Return whether a field repeats one that the model reads. own: the fields of the file that it reads."""
    if any(re.search(pattern, name) and any(re.search(pattern, other) for other in own) for pattern in _REPLACED):
        return True
    patterns = [pattern for pattern in (*_SAME, *_REPLACED) if re.search(pattern, name)]
    used = [item for item in _used(config.to_dict()) if item[0] != name]
    return any(re.search(pattern, other) and value == one for pattern in patterns for other, one in used)


def _used(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a configuration, those within `rope_parameters` included."""
    for name, value in fields.items():
        inside = isinstance(value, dict) and (name == "rope_parameters" or name in _LAYERS)
        yield from _used(value) if inside else ((name, value),)


def _fields(of: type[Any]) -> frozenset[str]:
    """Return the fields that the code of a class reads, by its module's text, and the parameters of its constructor."""
    text = inspect.getsource(sys.modules[of.__module__])
    read = re.findall(r"config\.(\w+)|getattr\((?:self\.)?config, *[\"'](\w+)|kwargs\.\w+\([\"'](\w+)", text)
    names = {name for found in read for name in found if name}
    if issubclass(of, PretrainedConfig):
        names |= {*inspect.signature(of.__init__).parameters, *of.attribute_map, *of().to_dict()}
    return frozenset(names)
