"""A config.json of transformers 5 in the spelling of transformers 4."""

from __future__ import annotations

from typing import Any

_BESIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")


def respell(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config.json that transformers 5 writes, as transformers 4 writes them, if it knows the family."""
    if config["model_type"] in ("gemma4_text", "mellum"):
        return config
    rest = {name: value for name, value in config.items() if name not in ("rope_parameters", "dtype")}
    given = config.get("rope_parameters") or {}
    scaling = dict(given.get("full_attention", given))
    kind = scaling.pop("rope_type", "default")
    names = {name: name for name in _BESIDE}
    if config["model_type"] == "gpt_neox":
        names |= {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    rest |= {field: scaling.pop(name) for name, field in names.items() if name in scaling}
    if config["model_type"] == "gemma3_text":
        rest["rope_local_base_freq"] = given["sliding_attention"]["rope_theta"]
    if kind != "longrope" and "original_max_position_embeddings" in rest:
        scaling["original_max_position_embeddings"] = rest.pop("original_max_position_embeddings")
    rest["rope_scaling"] = {"rope_type": kind, **scaling} if scaling else None
    return rest | {"torch_dtype": "float32", "transformers_version": "4.57.1"}
