"""Export an embedding model: the step of `pipeline.py` that differs from a chat model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase, Sequence

from infrs.bundle.manifest import Dtype, Pooling
from infrs.errors import ExportError, SourceError

from .bundle.companions import write_companions
from .bundle.publish import check_space
from .bundle.tokenizer_file import open_tokenizer, token_ids
from .graph.convert import GRAPH_FILE
from .graph.embedding import convert_embedding
from .graph.sentence_encoder import load_sentence_encoder
from .parity import embedding as embedding_parity
from .progress import Progress
from .recipes import recipe as recipes
from .recipes.floats import HALF_DTYPES
from .sources.embeddings.find import find_layout
from .sources.embeddings.layout import Layout
from .sources.embeddings.module_files import has_modules
from .sources.resolve import Model
from .sources.torch_model import round_weights

DEFAULT_LONGEST = 2048  # tokens: 16 heads take 0.3 GB for the scores of such a text, and 16 times that for 8192


def build_embedding(
    found: Model,
    dtype: Dtype,
    directory: Path,
    *,
    context_length: int | None,
    pooling: Pooling | None,
    report: Progress,
) -> dict[str, Any]:
    """Write a bundle to `directory`, run the parity check, and return this model's part of the manifest.

    context_length: the most tokens of a text; default the model's own, but at most DEFAULT_LONGEST.
    pooling: the choice for a model that names none.
    Raises SourceError, ExportError, ParityError.
    """
    layout = find_layout(found.directory, pooling)
    if pooling is None and not has_modules(found.directory):
        report.note(
            f"no modules.json names the pooling; taking {layout.pooling} like sentence-transformers; see --pooling"
        )
    report.note(f"loading {found.source.model_id}")
    encoder = load_sentence_encoder(found, layout)
    longest = max_tokens(encoder.max_tokens, context_length, report)
    check_space(directory, recipes.stored_bytes(dtype, sum(weight.numel() for weight in encoder.parameters())))
    write_companions(found, encoder.transformer, directory)
    tokenizer = prepare_tokenizer(directory / "tokenizer.json", lowercase=layout.lowercase)
    if dtype in HALF_DTYPES:
        round_weights(encoder, HALF_DTYPES[dtype])
    report.note("recording the source model's vectors")
    recorded = embedding_parity.record(
        encoder, lambda text: token_ids(tokenizer, layout.prompts.default + text), longest
    )
    convert_embedding(encoder, directory, recipes.lowering(dtype, rounds_inputs=False), report.stage)
    report.note("comparing the bundle with its source")
    return {
        "architecture": str(encoder.transformer.config.model_type),
        "graph_file": GRAPH_FILE,
        "vocab_size": int(encoder.transformer.config.vocab_size),
        "context_length": longest,
        "parity": embedding_parity.check(dtype, directory / GRAPH_FILE, recorded),
        "dimensions": encoder.dimensions,
        "pooling": layout.pooling,
        "normalized": layout.normalized,
        "prompt": layout.prompts.default,
        "prompts": layout.prompts.by_name,
        **_lengths(layout, encoder.dimensions),
    }


def _lengths(layout: Layout, dimensions: int) -> dict[str, Any]:
    """Return the manifest's fields of shorter vectors. Raises SourceError for lengths that the vectors do not have."""
    default, allowed = layout.lengths.default, layout.lengths.allowed
    if (longest := max((default or 1, *(allowed or ())))) > dimensions:
        raise SourceError(f"the model declares vectors of {longest} numbers, but its vectors have {dimensions}")
    shorter = None if allowed is None else tuple(length for length in allowed if length < dimensions)
    return {"default_dimensions": default, "shorter": shorter}


def max_tokens(longest: int, asked: int | None, report: Progress) -> int:
    """Return the most tokens of a text: those asked for, else the model's own `longest` up to DEFAULT_LONGEST.

    Attention over n tokens needs memory for n * n numbers per head. Raises ExportError if more are asked for than the
    model has.
    """
    if asked is not None and asked > longest:
        raise ExportError(
            f"a context of {asked} tokens is not possible, this model takes texts of 1 to {longest}: choose one within",
            param="context_length",
        )
    if asked is None and longest > DEFAULT_LONGEST:
        report.note(f"texts of up to {DEFAULT_LONGEST} tokens; --context-length {longest} takes the model's longest")
    return asked or min(longest, DEFAULT_LONGEST)


def prepare_tokenizer(path: Path, *, lowercase: bool) -> Tokenizer:
    """Return the bundle's tokenizer, with lower-casing as a normalizer if the model needs it."""
    tokenizer = open_tokenizer(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if lowercase:
        tokenizer.normalizer = Sequence([Lowercase(), *filter(None, [tokenizer.normalizer])])
    tokenizer.save(str(path))
    return tokenizer
