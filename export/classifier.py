"""Export a sequence classifier, such as a cross-encoder: the step of `pipeline.py` that differs from a chat model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from infrs.bundle.manifest import Dtype

from .bundle.companions import write_companions
from .bundle.publish import check_space
from .bundle.tokenizer_file import explained
from .embedding import max_tokens, prepare_tokenizer
from .graph.classifier import convert_classifier
from .graph.convert import GRAPH_FILE
from .graph.sentence_encoder import longest_text
from .parity import classifier as parity
from .progress import Progress
from .recipes import recipe as recipes
from .recipes.floats import HALF_DTYPES
from .sources.config_check import read_json
from .sources.resolve import Model
from .sources.sequence_classifier import activation_of, has_token_types, labels_of, longest_pair
from .sources.torch_model import load_classifier, round_weights


def build_classifier(
    found: Model, dtype: Dtype, directory: Path, *, context_length: int | None, report: Progress
) -> dict[str, Any]:
    """Write a bundle to `directory`, run the parity check, and return this model's part of the manifest.

    context_length: the most tokens of a pair; default as of `max_tokens`.
    Raises SourceError, ExportError, ParityError.
    """
    report.note(f"loading {found.source.model_id}")
    model = load_classifier(found)
    labels = labels_of(model.config)
    activation = activation_of(read_json(found.directory / "config.json"), len(labels))
    own = longest_text(model)
    longest = max_tokens(min(own, longest_pair(found.directory) or own), context_length, report)
    check_space(directory, recipes.stored_bytes(dtype, sum(weight.numel() for weight in model.parameters())))
    write_companions(found, model, directory)
    tokenizer = prepare_tokenizer(directory / "tokenizer.json", lowercase=False)
    token_types = has_token_types(found.directory, model.config)
    if dtype in HALF_DTYPES:
        round_weights(model, HALF_DTYPES[dtype])
    report.note("recording the source model's scores")
    recorded = parity.record(
        model, lambda first, second: _pair(tokenizer, first, second), longest, token_types=token_types
    )
    convert_classifier(
        model, directory, recipes.lowering(dtype, rounds_inputs=False), report.stage, token_types=token_types
    )
    report.note("comparing the bundle with its source")
    return {
        "architecture": str(model.config.model_type),
        "graph_file": GRAPH_FILE,
        "vocab_size": int(model.config.vocab_size),
        "context_length": longest,
        "parity": parity.check(dtype, directory / GRAPH_FILE, recorded),
        "labels": labels,
        "activation": activation,
        "token_types": token_types,
    }


def _pair(tokenizer: Tokenizer, first: str, second: str) -> tuple[list[int], list[int]]:
    with explained("tokenizer.json cannot tokenise a pair of texts"):
        encoding = tokenizer.encode(first, second)
        return list(encoding.ids), list(encoding.type_ids)
