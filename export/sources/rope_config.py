"""Read the rotary settings of config.json, in the spelling of transformers 4 or 5.

transformers 4 writes `rope_theta` and `rope_scaling`, and other names for some model types. transformers 5 writes
`rope_parameters`, by type of layer where they differ. The model is made from the latter, and its frequencies must be
those that `rope_tables` computes from the file.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedModel

from infrs.errors import SourceError

from .rope_tables import ORIGINAL, PART, THETA, Parameters, Table, check_parameters, rope_table

Rope = dict[str, Parameters]  # by type of layer, or with the key EVERY alone

FIELD, SCALING, EVERY = "rope_parameters", "rope_scaling", ""
_FULL, _SLIDING = "full_attention", "sliding_attention"
# The fields of transformers 4 by model type, type of layer and the parameter that they set.
_FIELDS = {EVERY: {THETA: THETA, PART: PART}}
_OWN_FIELDS: dict[str, dict[str, dict[str, str]]] = {
    "gemma3_text": {_FULL: {THETA: THETA}, _SLIDING: {THETA: "rope_local_base_freq"}},
    "gemma3n_text": {_FULL: {THETA: THETA}, _SLIDING: {THETA: "rope_local_base_freq"}},
    "gpt_neox": {EVERY: {THETA: "rotary_emb_base", PART: "rotary_pct"}},
    "gpt_neox_japanese": {EVERY: {THETA: "rotary_emb_base", PART: "rotary_pct"}},
    "modernbert": {_FULL: {THETA: "global_rope_theta"}, _SLIDING: {THETA: "local_rope_theta"}},
    "modernbert-decoder": {_FULL: {THETA: "global_rope_theta"}, _SLIDING: {THETA: "local_rope_theta"}},
    "olmo3": {_FULL: {THETA: THETA}, _SLIDING: {THETA: THETA}},
}
_WITHOUT_THETA = {"olmo_hybrid"}  # these rotate nothing if the file gives this:
_UNROTATED = {THETA: None, "rope_type": "default"}
_KINDS = ("rope_type", "type")  # fields for the type of scaling
_OLDER_KINDS = {"su": "longrope"}  # the name in the first files of Phi-3
_WITH_ORIGINAL = ("llama3", "yarn", "longrope")
_SUFFIX = "inv_freq"
_PASSED = re.compile(r"\b(q|query)_pass\b")  # what transformers calls the part of a head that does not rotate
_TOLERANCE = 1e-5  # of float32


def read_rope(config: dict[str, Any]) -> tuple[dict[str, Any], Rope]:
    """Return `config` with its rotary settings in `rope_parameters` alone, and the settings.

    Raises SourceError, naming the field, for settings that contradict each other or that infrs does not know.
    """
    for name in (FIELD, SCALING):
        if not isinstance(config.get(name), dict | None):
            raise SourceError(f"config.json gives {name} as {config[name]!r:.60}, which is not an object")
    if (scaling := config.get(SCALING)) and not scaling.keys() & {*_KINDS, THETA}:
        raise SourceError(f"config.json gives {SCALING} as {scaling!r:.60}, which has no rope_type; correct it")
    model_type = str(config["model_type"])
    known: Any = CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else None  # noqa: SIM401  # has no default
    if not hasattr(known, FIELD):  # `check_fields` refuses the fields of a model that does not rotate
        return config, {}
    if model_type in _WITHOUT_THETA and not config.get(SCALING):
        given = config.get(FIELD) or {THETA: config.get(THETA, 0)}
        if {"rope_type": "default", **given} == _UNROTATED:
            return {name: value for name, value in config.items() if name != THETA} | {FIELD: _UNROTATED}, {}
    by_layer = any(isinstance(value, dict) for value in (known().rope_parameters or {}).values())
    fields = _OWN_FIELDS.get(model_type, {} if by_layer else _FIELDS)
    given = _given(config, by_layer=by_layer)
    rope = {layer: _merged(_entries(config, layer, given.get(layer, {}), fields)) for layer in fields | given}
    for parameters in rope.values():
        check_parameters(parameters, known.ignore_keys_at_rope_validation)
    read = {FIELD, SCALING, *(name for names in fields.values() for name in names.values() if not hasattr(known, name))}
    rest = {name: value for name, value in config.items() if name not in read or not (fields or value is None)}
    if any(rope.values()):
        rest[FIELD] = {layer: dict(parameters) for layer, parameters in rope.items()} if by_layer else dict(rope[EVERY])
    original = rope.get(EVERY, {}).get(ORIGINAL)
    return rest | ({ORIGINAL: original} if original and hasattr(known, ORIGINAL) else {}), rope


def check_rotary(model: PreTrainedModel, rope: Rope) -> None:
    """Raise SourceError unless the rotary tables of `model` are exactly those of its settings."""
    scales = any(parameters.get("rope_type", "default") != "default" for parameters in rope.values())
    rotates = getattr(model.base_model, "rotary_emb", model) is not None  # granitemoehybrid may rotate nothing
    if not rope or not (rotates or scales):
        return
    tables = list(_tables(model))
    wanted = {layer: _table(model.config, layer, rope.get(layer, {})) for layer, _ in tables}
    if not tables or not _rotates_part(model, rope) or not all(_same(table, wanted[layer]) for layer, table in tables):
        names = sorted({name for parameters in rope.values() for name in parameters})
        raise SourceError(
            f"this version of infrs cannot apply the rotary settings of config.json ({', '.join(names)}) to "
            f"{model.config.model_type} models; check that the model type is right, or try a newer infrs"
        )


def _given(config: Mapping[str, Any], *, by_layer: bool) -> Rope:
    """Return `rope_parameters` by type of layer, as the model type has them."""
    given = config.get(FIELD) or {}
    nested = {layer: parameters for layer, parameters in given.items() if isinstance(parameters, dict)}
    if nested and nested.keys() != given.keys():
        raise SourceError(f"config.json mixes parameters and types of layers in {FIELD}, which infrs cannot read")
    if by_layer and given and not nested:
        raise SourceError(
            f"config.json gives one {FIELD} for all types of layers of {config['model_type']}; correct it"
        )
    first = next(iter(nested.values()), given)
    if not by_layer and any(parameters != first for parameters in nested.values()):
        raise SourceError(
            f"config.json gives {FIELD} by type of layer ({', '.join(nested)}), "
            f"which infrs cannot do for {config['model_type']}"
        )
    return nested if by_layer else {EVERY: first}


def _entries(
    config: Mapping[str, Any], layer: str, given: Parameters, fields: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str, Any]]:
    """Yield the place in config.json, the parameter and its value, for each setting of a type of layer."""
    place = f"{FIELD}.{layer}" if layer else FIELD
    scaling = config.get(SCALING) or {}
    entries = [(f"{place}.{name}", name, value) for name, value in given.items()]
    if layer != _SLIDING:  # transformers 4 scales the other layers alone
        entries += [(f"{SCALING}.{name}", name, value) for name, value in scaling.items()]
    entries += [(field, name, config[field]) for name, field in fields.get(layer, {}).items() if field in config]
    kinds = [_kind(value) for _, name, value in entries if name in _KINDS]
    if any(kind in _WITH_ORIGINAL for kind in kinds):
        entries.append((ORIGINAL, ORIGINAL, config.get(ORIGINAL)))
    for place, name, value in entries:
        if value is not None or name == THETA:  # for the others, null is none
            yield (place, "rope_type", _kind(value)) if name in _KINDS else (place, name, value)


def _kind(value: object) -> str:
    return _OLDER_KINDS.get(str(value), str(value))


def _merged(entries: Iterable[tuple[str, str, Any]]) -> Parameters:
    """Return the parameters that all entries give. Raises SourceError if two of them contradict each other."""
    merged: Parameters = {}
    places: dict[str, str] = {}
    for place, name, value in entries:
        if merged.setdefault(name, value) != value:
            raise SourceError(
                f"config.json gives {place} as {value!r:.60} and {places[name]} as {merged[name]!r:.60}; "
                "correct one of them"
            )
        places.setdefault(name, place)
    return merged


def _tables(model: PreTrainedModel) -> Iterator[tuple[str, Table]]:
    """Yield the type of layer, EVERY for all, and the table, of each rotary module."""
    for module in model.modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            for name, buffer in module.named_buffers(recurse=False):
                prefix = name.removesuffix(_SUFFIX)
                scaling = getattr(module, f"{prefix}attention_scaling", None)
                if name.endswith(_SUFFIX) and scaling is not None:
                    yield prefix.removesuffix("_"), (buffer.double(), float(scaling))


def _table(config: Any, layer: str, given: Parameters) -> Table:  # noqa: ANN401  # a configuration of any model
    """Return the table for a type of layer. What the file does not give is the default of the model's class."""
    own = config.rope_parameters[layer] if layer else config.rope_parameters
    parameters = {THETA: own[THETA], PART: own.get(PART) or 1.0} | given
    if ORIGINAL not in parameters and parameters.get("rope_type") == "longrope" and hasattr(config, ORIGINAL):
        parameters[ORIGINAL] = config.original_max_position_embeddings
    if config.is_heterogeneous:  # the width of a head depends on the type of layer
        config = config.per_layer_config[layer]
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return rope_table(parameters, head_dim, config.max_position_embeddings)


def _rotates_part(model: PreTrainedModel, rope: Rope) -> bool:
    """Return whether the attention can rotate a part of a head, if the settings require it."""
    partial = any(
        parameters.get(PART, 1.0) != 1.0 and parameters.get("rope_type") != "proportional"
        for parameters in rope.values()
    )
    return not partial or bool(_PASSED.search(inspect.getsource(sys.modules[type(model).__module__])))


def _same(one: Table, other: Table) -> bool:
    return (
        math.isclose(one[1], other[1], rel_tol=_TOLERANCE)
        and one[0].shape == other[0].shape
        and torch.allclose(one[0], other[0], rtol=_TOLERANCE, atol=0)
    )
