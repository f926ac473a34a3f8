"""Load a GGUF file into PyTorch through transformers, and check that every tensor is used."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedModel, modeling_gguf_pytorch_utils

from ...replaced import replaced
from ..checks.values import check_finite
from ..checks.weights import check_filled
from .config import ROPE_FACTORS, check_whole, config_fields

_UNUSED = re.compile(r"\.attn_rot_embd(\.weight)?$")  # frequencies that old converters kept


def load_gguf(
    path: Path, model_id: str, progress: Callable[[int, int], None], options: dict[str, Any]
) -> PreTrainedModel:
    """Return the causal language model in the file `path`. Raises SourceError.

    model_id: the name in errors. progress: called with the tensors read and their number. options: for
    `from_pretrained`.
    """
    loader: Any = AutoModelForCausalLM
    with _once(progress):
        reader = gguf.GGUFReader(str(path))
        fields = _fields(reader)
        place = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        read = AutoConfig.from_pretrained(**place, local_files_only=True)
        config = CONFIG_MAPPING[fields["model_type"]].from_dict({**read.to_dict(), **fields})
        loaded, info = loader.from_pretrained(**place, config=config, output_loading_info=True, **options)
        known = modeling_gguf_pytorch_utils.get_gguf_hf_weights_map(loaded)
        names = {tensor.name for tensor in reader.tensors} - {ROPE_FACTORS}
        unused = [name for name in names - known.keys() if not _UNUSED.search(name)]
        check_filled(model_id, info["missing_keys"], unused, {})
        check_finite(model_id, loaded)
    trained: PreTrainedModel = loaded.train(False)
    return trained


def _fields(reader: gguf.GGUFReader) -> dict[str, Any]:
    """Return the fields of the configuration that the metadata sets. Raises SourceError."""
    named = reader.fields.get("general.architecture")
    prefixes = ("general.", "split.", f"{named.contents() if named else ''}.")
    metadata = {name: field.contents() for name, field in reader.fields.items() if name.startswith(prefixes)}
    check_whole(metadata)
    factors = [gguf.dequantize(t.data, t.tensor_type).tolist() for t in reader.tensors if t.name == ROPE_FACTORS]
    return config_fields(metadata, factors[0] if factors else None)


@contextmanager
def _once(progress: Callable[[int, int], None]) -> Iterator[None]:
    """Parse the file and build the table of names once; transformers repeats both, which takes 12 s more.

    `progress` replaces the bar of transformers. `from_pretrained` has no parameter for any of the three.
    """

    def counted(tensors: Sequence[Any], **_: Any) -> Iterator[Any]:  # noqa: ANN401  # as tqdm
        for done, tensor in enumerate(tensors, 1):
            yield tensor
            progress(done, len(tensors))

    with (
        replaced(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
        replaced(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
        replaced(modeling_gguf_pytorch_utils, "tqdm", counted),
    ):
        yield
