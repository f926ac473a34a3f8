"""A GGUF file again in another of llama.cpp's types, so that peers run the same weights.

As `llama-quantize` does it: matrices get the type, vectors stay float32, and for Q4_0 the embedding, which is also the
output here, keeps more bits: Q6_K where rows are whole super-blocks of 256, else Q8_0 (the demo's 576 columns).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, quants

TYPES = {
    "F32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "F16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "BF16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "Q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_FLOATS = ("ffn_gate_inp", "ssm_conv1d")  # of a router or a convolution
# The writer adds these itself.
_WRITERS_OWN = {"general.architecture", "general.file_type", "general.quantization_version"}


def copy_fields(
    reader: GGUFReader, writer: GGUFWriter, changes: Mapping[str, object], keep: tuple[str, ...] = ("",)
) -> None:
    """Write what a file says of its model, but for its weights' types, with some of it changed.

    keep: the beginnings of the names to write.
    """
    for name, field in reader.fields.items():
        if name not in _WRITERS_OWN and not name.startswith("GGUF.") and name.startswith(keep):
            kind, *rest = field.types
            sub_type = rest[-1] if kind is GGUFValueType.ARRAY else None
            writer.add_key_value(name, changes.get(name, field.contents()), kind, sub_type=sub_type)
    writer.add_quantization_version(2)


def requantize(source: Path, target: Path, kind: str) -> None:
    """Write `source` to `target` in the type `kind` of `TYPES`, in one rename."""
    qtype, file_type = TYPES[kind]
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    temporary = target.with_suffix(".partial")
    writer = GGUFWriter(temporary, architecture)
    copy_fields(reader, writer, {})
    writer.add_file_type(file_type)
    for tensor in reader.tensors:
        weights = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if weights.ndim < 2 or any(part in tensor.name for part in _FLOATS):
            writer.add_tensor(tensor.name, weights)
            continue
        keeps_more = kind == "Q4_0" and tensor.name in ("token_embd.weight", "output.weight")
        wanted = GGMLQuantizationType.Q8_0 if keeps_more else qtype
        writer.add_tensor(tensor.name, quants.quantize(weights, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.replace(target)
