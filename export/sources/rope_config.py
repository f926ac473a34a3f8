"""Read the rotary settings of config.json, and convert those of transformers 5 (`rope_parameters`) for 4.57.

4.57 ignores the field and rotates by its defaults. https://huggingface.co/docs/transformers/v5.0.0/en/internal/rope_utils
The frequencies of the loaded model must be those that `rope_tables` computes from the file.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedModel

from infrs.errors import SourceError

from ..graph.fusions.families import FAMILIES
from .rope_tables import Parameters, Table, check_parameters, rope_kind, rope_table

FIELD = "rope_parameters"
_ORIGINAL = "original_max_position_embeddings"
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
# The fields of 4.57 for the base of each type of layer, and the fields with other names.
_BASES = {
    "gemma3_text": {_GLOBAL: "rope_theta", _LOCAL: "rope_local_base_freq"},
    "modernbert": {_GLOBAL: "global_rope_theta", _LOCAL: "local_rope_theta"},
}
_NAMES = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}
_STANDARD = FAMILIES.keys() | _NAMES.keys()  # model types that rotate as `rope_tables` computes
_TOLERANCE = 1e-5  # of float32


def translate(config: dict[str, Any]) -> tuple[dict[str, Any], list[Parameters]]:
    """Return `config` with the fields that 4.57 reads, and the parameters of each kind of layer for `check_rotary`.

    Raises SourceError, naming the field, for parameters that 4.57 has no field for.
    """
    older = config.get("rope_scaling")
    for name, value in ((FIELD, config.get(FIELD)), ("rope_scaling", older)):
        if value is not None and not isinstance(value, dict):
            raise SourceError(f"config.json gives {name} as {value!r:.60}, which is not an object")
    if older == {}:  # transformers takes null alone for no scaling
        config = config | {"rope_scaling": None}
    if isinstance(older, dict) and "rope_theta" in older and not config.get(FIELD):
        config = {name: value for name, value in config.items() if name != "rope_scaling"} | {FIELD: older}
    given = config.get(FIELD)
    if not given:
        return _older(config)
    by_layer = {name: value for name, value in given.items() if isinstance(value, dict)}
    if by_layer and by_layer.keys() != given.keys():
        raise SourceError(f"config.json mixes parameters and types of layers in {FIELD}, which infrs cannot read")
    kinds = list(by_layer.values()) or [given]
    for parameters in kinds:
        check_parameters(parameters)
    fields = _by_layer(config, by_layer) if by_layer else _fields(str(config["model_type"]), given)
    for name, value in fields.items():
        if not _agree(config.get(name), value):
            raise SourceError(
                f"config.json gives {name} as {config[name]!r:.60} and by {FIELD} as {value!r:.60}; correct one of them"
            )
    return {name: value for name, value in config.items() if name != FIELD} | fields, kinds


def check_rotary(model: PreTrainedModel, kinds: list[Parameters]) -> None:
    """Raise SourceError unless the rotary tables of `model` are exactly those of the parameters."""
    if not kinds:
        return
    modules: list[Any] = list(model.modules())
    tables = [
        (module.inv_freq.double(), float(module.attention_scaling))
        for module in modules
        if type(module).__name__.endswith("RotaryEmbedding") and hasattr(module, "attention_scaling")
    ]
    wanted = [_table(model, parameters) for parameters in kinds] if tables else []
    found = tables and _takes_parts(model, kinds) and all(any(_same(table, one) for one in tables) for table in wanted)
    if not found or not all(any(_same(table, one) for table in wanted) for one in tables):
        raise SourceError(
            f"this version of infrs cannot apply the rotary settings of config.json ({', '.join(sorted(kinds[0]))}) "
            f"to {model.config.model_type} models; save the model with transformers 4.57 and export it again"
        )


def _older(config: dict[str, Any]) -> tuple[dict[str, Any], list[Parameters]]:
    """Return what `translate` returns for the fields of transformers 4."""
    model_type = str(config["model_type"])
    known = CONFIG_MAPPING[model_type] if model_type in _STANDARD else None
    if known is None or "max_position_embeddings" not in inspect.signature(known.__init__).parameters:
        return config, []
    names = {name: _NAMES.get(model_type, {}).get(name, name) for name in ("rope_theta", "partial_rotary_factor")}
    if names["rope_theta"] not in inspect.signature(known.__init__).parameters:
        return config, []
    scaling = config.get("rope_scaling") or {}
    common = {name: config[field] for name, field in names.items() if config.get(field) is not None}
    original = config.get(_ORIGINAL) or scaling.get(_ORIGINAL)
    if rope_kind(scaling) == "longrope" and original:  # 4.57 reads this key outside the scaling
        config, common = config | {_ORIGINAL: original}, common | {_ORIGINAL: original}
    if model_type == "phi3" and scaling:
        config = config | {"rope_scaling": _scaling_of_phi3(rope_kind(scaling), scaling)}
    kinds = [scaling | common]
    if local := _BASES.get(model_type, {}).get(_LOCAL):
        kinds.append({"rope_theta": config.get(local) or getattr(known(), local)})
    for parameters in kinds:
        check_parameters(parameters)
    return config, kinds


def _agree(older: object, newer: object) -> bool:
    """Return whether an older field is absent or equal to the newer one. Of scaling, compare only common keys."""
    if isinstance(older, dict) and isinstance(newer, dict):
        return all(newer[name] == value for name, value in older.items() if name in newer)
    return older is None or older == newer


def _fields(model_type: str, given: Parameters) -> dict[str, Any]:
    """Return the fields for parameters that apply to every layer."""
    rest = dict(given)
    names = _NAMES.get(model_type, {})
    fields = {
        names.get(name, name): rest.pop(name)
        for name in ("rope_theta", "partial_rotary_factor")
        if rest.get(name) is not None
    }
    kind = rope_kind(rest)
    if kind == "default":
        return fields
    if kind == "longrope" and rest.get(_ORIGINAL):  # 4.57 reads this key outside the scaling
        fields[_ORIGINAL] = rest[_ORIGINAL]
    scaling = {name: value for name, value in rest.items() if value is not None} | {"rope_type": kind}
    return fields | {"rope_scaling": _scaling_of_phi3(kind, rest) if model_type == "phi3" else scaling}


def _scaling_of_phi3(kind: str, parameters: Parameters) -> dict[str, Any]:
    """Return the three keys that 4.57 allows for Phi-3; it derives the others."""
    return {"type": kind} | {name: parameters[name] for name in ("short_factor", "long_factor") if name in parameters}


def _by_layer(config: dict[str, Any], by_layer: dict[str, Parameters]) -> dict[str, Any]:
    """Return the fields for parameters by type of layer. Raises SourceError if 4.57 has no fields for them."""
    model_type = str(config["model_type"])
    first, *others = by_layer.values()
    if all(other == first for other in others):
        return _fields(model_type, first)
    bases = _BASES.get(model_type)
    if bases is None or not by_layer.keys() <= bases.keys():
        raise SourceError(
            f"config.json gives {FIELD} by type of layer ({', '.join(by_layer)}), "
            f"which infrs cannot do for {model_type}"
        )
    local = _fields(model_type, by_layer.get(_LOCAL, {}))
    if local.keys() - {"rope_theta"}:
        raise SourceError(f"config.json scales {_LOCAL} in {FIELD}, which infrs cannot do for {model_type}")
    fields = _fields(model_type, by_layer.get(_GLOBAL, {}))
    given = {_LOCAL: local.get("rope_theta"), _GLOBAL: fields.pop("rope_theta", None)}
    return fields | {bases[name]: base for name, base in given.items() if base is not None}


def _table(model: PreTrainedModel, parameters: Parameters) -> Table:
    """Return the table of `parameters`, with the model's configuration for what they do not give."""
    config: Any = model.config
    theta = float(getattr(config, "rope_theta", 0) or 0)
    part = getattr(config, "partial_rotary_factor", None)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = int(head_dim * (parameters.get("partial_rotary_factor") or part or 1.0))
    if _ORIGINAL not in parameters and rope_kind(parameters) == "longrope" and getattr(config, _ORIGINAL, None):
        parameters = parameters | {_ORIGINAL: config.original_max_position_embeddings}
    return rope_table(parameters, theta, width, config.max_position_embeddings)


def _takes_parts(model: PreTrainedModel, kinds: list[Parameters]) -> bool:
    """Return whether the attention can rotate a part of a head, if the parameters require it."""
    names = inspect.signature(type(model.config).__init__).parameters.keys()
    partial = any(parameters.get("partial_rotary_factor", 1.0) not in (None, 1.0) for parameters in kinds)
    return not partial or bool(names & {"partial_rotary_factor", "rotary_pct"})


def _same(one: Table, other: Table) -> bool:
    return (
        math.isclose(one[1], other[1], rel_tol=_TOLERANCE)
        and one[0].shape == other[0].shape
        and torch.allclose(one[0], other[0], rtol=_TOLERANCE, atol=0)
    )
