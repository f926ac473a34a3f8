"""GGUF files of random weights with the demo's tokenizer, for speed alone: what they answer means nothing.

    python -m benchmarks.peers.random_model FOLDER              # a billion weights, in the shape of Llama 3.2 1B
    python -m benchmarks.peers.random_model FOLDER --mixture    # four layers in the shape of Qwen3-30B-A3B

Nothing of that size can be fetched without the Hub. Each makes a file in Q8_0 and one in Q4_0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType

from benchmarks.lib.models import gguf
from benchmarks.lib.requantize import copy_fields, requantize

DEVIATION = 0.02


@dataclass(frozen=True)
class Shape:
    """A model to make. keys: metadata of its architecture. products: outputs and inputs, and experts before them."""

    architecture: str
    layers: int
    hidden: int
    keys: Mapping[str, int | float]
    norms: Mapping[str, int]
    products: Mapping[str, tuple[int, ...]]


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
    norms={"attn_norm": 2048, "ffn_norm": 2048},
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
    norms={"attn_norm": 2048, "ffn_norm": 2048, "attn_q_norm": 128, "attn_k_norm": 128},
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


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--mixture", is_flag=True, help="Make a mixture of experts.")
def main(folder: Path, *, mixture: bool) -> None:
    """Make both files."""
    shape = MIXTURE if mixture else LLAMA
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
        else:
            writer.add_float32(name, value)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    rng = np.random.default_rng(0)
    add(writer, "token_embd", (reader.fields["llama.vocab_size"].contents(), shape.hidden), rng)
    for layer in range(shape.layers):
        for norm, width in shape.norms.items():
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(width, np.float32))
        for product, sizes in shape.products.items():
            add(writer, f"blk.{layer}.{product}", sizes, rng)
        if "ffn_gate_exps" in shape.products:
            router = rng.standard_normal((shape.products["ffn_gate_exps"][0], shape.hidden), dtype=np.float32)
            writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", router * np.float32(DEVIATION))
    writer.add_tensor("output_norm.weight", np.ones(shape.hidden, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    requantize(path, folder / f"{shape.architecture}.Q4_0.gguf", "Q4_0")


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
