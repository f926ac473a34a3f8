"""Restore the tensors of Qwen 3.5, which llama.cpp's converter stores otherwise than transformers.

The converter (conversion/qwen.py) stores -exp(A_log), calls `dt_bias` the bias of a product, and drops the middle
dimension of the convolution. Where several value heads share a key head, transformers keeps those of one key head
together. llama.cpp repeats the key heads as a whole, so the converter takes the first value head of each key head, then
the second of each, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from infrs.errors import SourceError

Array = NDArray[np.float32]
Metadata = Mapping[str, Any]

# Tensors with a row, or with `head_dim` rows, for each value head. The last one has columns for them.
_BY_HEAD = (".ssm_a", ".ssm_dt.bias", ".ssm_alpha.weight", ".ssm_beta.weight")
_BY_FEATURE = (".attn_qkv.weight", ".attn_gate.weight", ".ssm_conv1d.weight", ".ssm_out.weight")


def config_fields(name: str, values: Metadata) -> dict[str, Any]:
    """Return the fields of transformers for the keys of linear attention, which `values` has all.

    Raises SourceError, with the keys, for sizes that no model has.
    """
    num_layers = values["block_count"] - values.get("nextn_predict_layers", 0)
    interval = values.get("full_attention_interval", 4)
    heads, groups, width = (values[f"ssm.{key}"] for key in ("time_step_rank", "group_count", "state_size"))
    if heads % groups or values["ssm.inner_size"] != heads * width or num_layers < 1:
        raise SourceError(
            f"the GGUF file gives {name} {num_layers} layers, {heads} value heads of {groups} groups, and "
            f"{values['ssm.inner_size']} as ssm.inner_size for states of {width}, which no model has; "
            "convert the model again"
        )
    return {
        "num_hidden_layers": num_layers,
        "layer_types": [
            "linear_attention" if (layer + 1) % interval else "full_attention" for layer in range(num_layers)
        ],
        "linear_conv_kernel_dim": values["ssm.conv_kernel"],
        "linear_key_head_dim": width,
        "linear_num_key_heads": groups,
        "linear_num_value_heads": heads,
        "linear_value_head_dim": width,
    }


def is_draft(name: str, num_layers: int) -> bool:
    """Return whether a tensor is of a layer behind the last one, which drafts tokens (multi-token prediction)."""
    found = re.match(r"blk\.(\d+)\.", name)
    return found is not None and int(found[1]) >= num_layers


def stored_name(parameter: str) -> str:
    """Return the name that gguf's table knows for a parameter: that of a module with `.weight` or `.bias`."""
    return parameter.replace(".dt_bias", ".dt_proj.bias")


def stored_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in PyTorch of a tensor that has `shape` in the file."""
    if name.endswith(".ssm_conv1d.weight") and len(shape) == 2:
        return shape[0], 1, shape[1]
    return (1, *shape) if name.endswith(".ffn_gate_inp_shexp.weight") and len(shape) == 1 else shape


def restored(name: str, values: Array, config: PretrainedConfig) -> Array:
    """Return the values of a tensor as transformers has them."""
    if name.endswith(".ssm_a"):
        values = np.log(-values)
    if name.endswith(_BY_HEAD):
        return _by_key_head(values, 1, config)
    if name.endswith(".ffn_gate_inp_shexp.weight"):
        return values.reshape(1, -1)
    if not name.endswith(_BY_FEATURE):
        return values
    head_dim = config.linear_value_head_dim
    if name.endswith(".ssm_out.weight"):
        return np.ascontiguousarray(_by_key_head(values.T, head_dim, config).T)
    if name.endswith(".attn_gate.weight"):
        return _by_key_head(values, head_dim, config)
    num_keys = 2 * config.linear_num_key_heads * config.linear_key_head_dim  # rows of query and key come first
    if name.endswith(".ssm_conv1d.weight"):
        values = values[:, None]
    return np.concatenate([values[:num_keys], _by_key_head(values[num_keys:], head_dim, config)])


def _by_key_head(values: Array, head_dim: int, config: PretrainedConfig) -> Array:
    """Bring value heads of `head_dim` rows each from llama.cpp's order to transformers'."""
    num_keys = config.linear_num_key_heads
    shape = (config.linear_num_value_heads // num_keys, num_keys, head_dim, *values.shape[1:])
    return values.reshape(shape).swapaxes(0, 1).reshape(values.shape)
