"""Peak memory of exporting a model of the TinyLlama-1.1B shape (4.4 GB of float32 weights, random).

    python -m benchmarks.engine.export_memory [--dtype float32] [--layers 22]

Writes about 9 GB to a temporary folder (TMPDIR) and prints the exporter's own peak resident memory as a multiple of the
weights; float32 must stay below 3.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig

LIMIT = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=22)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tinyllama-shape"
        weight_bytes = write_model(folder, arguments.layers)
        started = time.perf_counter()
        command = [sys.executable, "-c", "from infrs_export.entry import main; main()"]
        command += [str(folder), "--dtype", arguments.dtype, "--output", str(Path(temporary) / "cache"), "--quiet"]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(
        f"{arguments.dtype}: {weight_bytes / 1e9:.2f} GB of weights, peak {peak / 1e9:.2f} GB = "
        f"{peak / weight_bytes:.2f} x, {seconds:.0f} s"
    )
    if arguments.dtype == "float32" and peak >= LIMIT * weight_bytes:
        sys.exit(f"peak memory is not below {LIMIT:g} times the weights")


def write_model(folder: Path, num_layers: int) -> int:
    """A Hugging Face folder with random weights; returns their bytes."""
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=num_layers,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder, max_shard_size="2GB")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return sum(parameter.nbytes for parameter in model.parameters())


if __name__ == "__main__":
    main()
