"""GGUF files of random weights with the demo's tokenizer, for speed alone: what they answer means nothing.

    python -m benchmarks.peers.random_model FOLDER              # a billion weights, in the shape of Llama 3.2 1B
    python -m benchmarks.peers.random_model FOLDER --mixture    # four layers in the shape of Qwen3-30B-A3B
    python -m benchmarks.peers.random_model FOLDER --hybrid     # Qwen3.5 0.8B but for its vocabulary

Nothing of that size can be fetched without the Hub. Each makes a file in Q8_0, and one in each type of `--types`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType

from benchmarks.lib.models import gguf
from benchmarks.lib.requantize import TYPES, copy_fields, requantize

DEVIATION = 0.02


@dataclass(frozen=True)
class Shape:
    """A model to make.

    keys: metadata of its architecture. floats: the shapes of what is stored in float32. products: outputs and inputs,
    and experts before them. every: each layer with a number divisible by it, counted from 1, has `others` instead of
    the floats and products with a name in `replaced`.
    """

    architecture: str
    layers: int
    hidden: int
    keys: Mapping[str, int | float | list[int]]
    floats: Mapping[str, tuple[int, ...]]
    products: Mapping[str, tuple[int, ...]]
    every: int = 0
    replaced: tuple[str, ...] = ()
    others: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def of_layer(self, layer: int) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]]]:
        """Return the floats and the products of a layer, counted from 0."""
        if not self.every or (layer + 1) % self.every:
            return self.floats, self.products
        kept = [
            {name: sizes for name, sizes in group.items() if not name.startswith(self.replaced)}
            for group in (self.floats, self.products)
        ]
        for name, sizes in self.others.items():
            kept[len(sizes) > 1][name] = sizes
        return kept[0], kept[1]


LLAMA = Shape(
    architecture="llama",
    layers=16,
    hidden=2048,
    keys={
        "feed_forward_length": 8192,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "rope.dimension_count": 64,
        "rope.freq_base": 1e5,
    },
    floats={"attn_norm.weight": (2048,), "ffn_norm.weight": (2048,)},
    products={
        "attn_q": (2048, 2048),
        "attn_k": (512, 2048),
        "attn_v": (512, 2048),
        "attn_output": (2048, 2048),
        "ffn_gate": (8192, 2048),
        "ffn_up": (8192, 2048),
        "ffn_down": (2048, 8192),
    },
)
MIXTURE = Shape(
    architecture="qwen3moe",
    layers=4,
    hidden=2048,
    keys={
        "feed_forward_length": 6144,
        "attention.head_count": 32,
        "attention.head_count_kv": 4,
        "attention.key_length": 128,
        "attention.value_length": 128,
        "rope.freq_base": 1e6,
        "expert_count": 128,
        "expert_used_count": 8,
        "expert_feed_forward_length": 768,
    },
    floats={
        "attn_norm.weight": (2048,),
        "ffn_norm.weight": (2048,),
        "attn_q_norm.weight": (128,),
        "attn_k_norm.weight": (128,),
        "ffn_gate_inp.weight": (128, 2048),
    },
    products={
        "attn_q": (4096, 2048),
        "attn_k": (512, 2048),
        "attn_v": (512, 2048),
        "attn_output": (2048, 4096),
        "ffn_gate_exps": (128, 768, 2048),
        "ffn_up_exps": (128, 768, 2048),
        "ffn_down_exps": (128, 2048, 768),
    },
)
HYBRID = Shape(
    architecture="qwen35",
    layers=24,
    hidden=1024,
    keys={
        "feed_forward_length": 3584,
        "attention.head_count": 8,
        "attention.head_count_kv": 2,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "rope.dimension_count": 64,
        "rope.dimension_sections": [11, 11, 10, 0],
        "rope.freq_base": 1e7,
        "ssm.conv_kernel": 4,
        "ssm.state_size": 128,
        "ssm.group_count": 16,
        "ssm.time_step_rank": 16,
        "ssm.inner_size": 2048,
        "full_attention_interval": 4,
    },
    floats={
        "attn_norm.weight": (1024,),
        "post_attention_norm.weight": (1024,),
        "ssm_norm.weight": (128,),
        "ssm_a": (16,),
        "ssm_dt.bias": (16,),
        "ssm_conv1d.weight": (6144, 4),
    },
    products={
        "attn_qkv": (6144, 1024),
        "attn_gate": (2048, 1024),
        "ssm_alpha": (16, 1024),
        "ssm_beta": (16, 1024),
        "ssm_out": (1024, 2048),
        "ffn_gate": (3584, 1024),
        "ffn_up": (3584, 1024),
        "ffn_down": (1024, 3584),
    },
    every=4,
    replaced=("attn_qkv", "attn_gate", "ssm_"),
    others={
        "attn_q_norm.weight": (256,),
        "attn_k_norm.weight": (256,),
        "attn_q": (4096, 1024),
        "attn_k": (512, 1024),
        "attn_v": (512, 1024),
        "attn_output": (1024, 2048),
    },
)
SHAPES = {"llama": LLAMA, "mixture": MIXTURE, "hybrid": HYBRID}


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--mixture", "kind", flag_value="mixture", help="Make a mixture of experts.")
@click.option("--hybrid", "kind", flag_value="hybrid", help="Make a model with linear attention.")
@click.option("--types", default="Q4_0", show_default=True, help="More types, separated by commas: " + ", ".join(TYPES))
def main(folder: Path, kind: str | None, types: str) -> None:
    """Make the files."""
    shape = SHAPES[kind or "llama"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{shape.architecture}.Q8_0.gguf"
    reader = GGUFReader(gguf("Q8_0"))
    writer = GGUFWriter(path, shape.architecture)
    copy_fields(reader, writer, {"general.name": shape.architecture}, keep=("general.", "tokenizer."))
    keys = {"context_length": 8192, "block_count": shape.layers, "embedding_length": shape.hidden, **shape.keys}
    for key, value in {**keys, "attention.layer_norm_rms_epsilon": 1e-5}.items():
        name = f"{shape.architecture}.{key}"
        if isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_float32(name, value)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    rng = np.random.default_rng(0)
    add(writer, "token_embd", (reader.fields["llama.vocab_size"].contents(), shape.hidden), rng)
    for layer in range(shape.layers):
        floats, products = shape.of_layer(layer)
        for name, sizes in floats.items():
            writer.add_tensor(f"blk.{layer}.{name}", floating(name, sizes, rng))
        for name, sizes in products.items():
            add(writer, f"blk.{layer}.{name}", sizes, rng)
    writer.add_tensor("output_norm.weight", np.ones(shape.hidden, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for name in types.split(","):
        requantize(path, folder / f"{shape.architecture}.{name}.gguf", name)


def floating(name: str, sizes: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return weights in float32: norms are 1, and rates of decay are -1."""
    if "norm" in name or name == "ssm_a":
        return np.full(sizes, 1 if "norm" in name else -1, np.float32)
    return rng.standard_normal(sizes, dtype=np.float32) * np.float32(DEVIATION)


def add(writer: GGUFWriter, name: str, sizes: tuple[int, ...], rng: np.random.Generator) -> None:
    """Add normally distributed weights in blocks of 32 bytes and one scale."""
    blocks = (*sizes[:-1], sizes[-1] // 32)
    rows: npt.NDArray[np.uint8] = np.empty((*blocks, 34), np.uint8)
    rows[..., :2] = np.full((*blocks, 1), 3 * DEVIATION / 127, np.float16).view(np.uint8)
    for row in rows.reshape(-1, *rows.shape[-2:]):
        levels = rng.standard_normal((len(row), 32), dtype=np.float32) * (127 / 3)
        row[:, 2:] = np.clip(np.rint(levels), -127, 127).astype(np.int8).view(np.uint8)
    writer.add_tensor(f"{name}.weight", rows.reshape(*sizes[:-1], -1), raw_dtype=GGMLQuantizationType.Q8_0)


if __name__ == "__main__":
    main()
