"""A GGUF file of about a billion random weights, in the shape of Llama 3.2 1B with the demo's tokenizer.

    python -m benchmarks.peers.random_model FOLDER     # big.Q8_0.gguf and big.Q4_0.gguf, 1.8 GB

For speed alone: what it answers means nothing, and nothing of that size can be fetched without the Hub.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType

from benchmarks.lib.models import gguf
from benchmarks.lib.requantize import copy_fields, requantize

LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, HEAD_SIZE = 16, 2048, 8192, 32, 8, 64
SHAPE = {
    "general.name": "big",
    "llama.block_count": LAYERS,
    "llama.embedding_length": HIDDEN,
    "llama.feed_forward_length": INNER,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.rope.dimension_count": HEAD_SIZE,
}
PRODUCTS = {  # outputs and inputs
    "attn_q": (HEADS * HEAD_SIZE, HIDDEN),
    "attn_k": (KV_HEADS * HEAD_SIZE, HIDDEN),
    "attn_v": (KV_HEADS * HEAD_SIZE, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD_SIZE),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}
DEVIATION = 0.02


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Make both files."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(gguf("Q8_0"))
    writer = GGUFWriter(folder / "big.Q8_0.gguf", "llama")
    copy_fields(reader, writer, SHAPE)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    rng = np.random.default_rng(0)
    add(writer, "token_embd", reader.fields["llama.vocab_size"].contents(), HIDDEN, rng)
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(HIDDEN, np.float32))
        for product, (outputs, inputs) in PRODUCTS.items():
            add(writer, f"blk.{layer}.{product}", outputs, inputs, rng)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    requantize(folder / "big.Q8_0.gguf", folder / "big.Q4_0.gguf", "Q4_0")


def add(writer: GGUFWriter, name: str, outputs: int, inputs: int, rng: np.random.Generator) -> None:
    """Normally distributed weights in blocks of 32 bytes and one scale."""
    blocks = (outputs, inputs // 32)
    rows: npt.NDArray[np.uint8] = np.empty((*blocks, 34), np.uint8)
    rows[..., :2] = np.full((*blocks, 1), 3 * DEVIATION / 127, np.float16).view(np.uint8)
    levels = rng.standard_normal((*blocks, 32), dtype=np.float32) * (127 / 3)
    rows[..., 2:] = np.clip(np.rint(levels), -127, 127).astype(np.int8).view(np.uint8)
    writer.add_tensor(f"{name}.weight", rows.reshape(outputs, -1), raw_dtype=GGMLQuantizationType.Q8_0)


if __name__ == "__main__":
    main()
