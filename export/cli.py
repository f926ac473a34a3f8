"""`infrs-export`: convert a Hugging Face model to a bundle."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import cast, get_args

import click

from infrs import __version__
from infrs.bundle.manifest import (
    AUTO_DTYPES,
    AnyManifest,
    ClassifierManifest,
    DtypeChoice,
    EmbeddingManifest,
    Pooling,
    read_manifest,
)

from .hub.fetch import MAX_MODEL_BYTES
from .pipeline import export_model
from .sources import demo

_AUTO = {kind: dtypes[0] for kind, dtypes in AUTO_DTYPES.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", required=False)
@click.option("--demo", "use_demo", is_flag=True, help=f"Export {demo.MODEL_ID}, a toy model without Hub access.")
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit of a Hub model.")
@click.option(
    "--dtype",
    type=click.Choice(get_args(DtypeChoice)),
    default="auto",
    show_default=True,
    help=f"Storage format of the weights. auto: {_AUTO['chat']}; {_AUTO['embedding']} for embedding models.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models_cache"),
    show_default=True,
    help="Cache directory of the bundles.",
)
@click.option("--model-id", help="Id of the served model. Default: its Hub id, or the name of its folder or file.")
@click.option(
    "--context-length",
    type=click.IntRange(min=1),
    help="Maximum context length, in tokens. Default: the model's own; with LongRoPE, the original one.",
)
@click.option(
    "--pooling",
    type=click.Choice(get_args(Pooling)),
    help="Pooling of an embedding model without modules.json. Default for encoders: mean.",
)
@click.option(
    "--max-model-bytes",
    type=click.IntRange(min=1),
    default=MAX_MODEL_BYTES,
    show_default=True,
    help="Maximum size of the files of a Hub model, in bytes. A larger model is refused.",
)
@click.option("--force", is_flag=True, help="Export again even if the bundle exists.")
@click.option("--quiet", is_flag=True, help="Print only the result, without progress.")
@click.option(
    "--for-server", is_flag=True, hidden=True, help="For infrs-serve: do not print the command that serves the bundle."
)
@click.version_option(__version__, prog_name="infrs-export")
def main(  # noqa: PLR0917  # click passes them by name
    model: str | None,
    use_demo: bool,
    revision: str,
    dtype: str,
    output: Path,
    model_id: str | None,
    context_length: int | None,
    pooling: str | None,
    max_model_bytes: int,
    force: bool,
    quiet: bool,
    for_server: bool,
) -> None:
    """Export MODEL (a Hub id, a Hugging Face folder or a .gguf file) to ONNX for infrs-serve."""
    if (model is None) == (not use_demo):
        raise click.UsageError("name one MODEL, or give --demo")
    started, built = time.perf_counter(), []
    bundle = export_model(
        model or demo.MODEL_ID,
        revision=revision,
        dtype=cast("DtypeChoice", dtype),
        output=output,
        force=force,
        model_id=model_id,
        context_length=context_length,
        pooling=cast("Pooling | None", pooling),
        max_model_bytes=max_model_bytes,
        progress=not quiet,
        on_build=lambda: built.append(True),
    )
    manifest = read_manifest(bundle)
    click.echo(_summary(bundle, manifest, time.perf_counter() - started, fresh=bool(built)))
    if not for_server:
        click.echo(f"Serve it:\n  infrs-serve {_serve_options(manifest, output, use_demo=use_demo)}")


def _summary(bundle: Path, manifest: AnyManifest, seconds: float, *, fresh: bool) -> str:
    size = sum(entry.size for entry in manifest.files.values())
    facts = [f"{manifest.architecture}, {_kind(manifest)}, {manifest.dtype}, {size / 1e6:.0f} MB"]
    facts += [", ".join(f"{name} {_figure(value)}" for name, value in manifest.parity.items())]
    if fresh:
        facts.append(f"{seconds:.1f} s, peak memory {_peak_bytes() / 1e6:.0f} MB")
    return "\n  ".join([f"{'Exported' if fresh else 'Already exported'}: {bundle}", *facts])


def _kind(manifest: AnyManifest) -> str:
    if isinstance(manifest, EmbeddingManifest):
        return f"embeddings of {manifest.dimensions} numbers, texts of up to {manifest.context_length} tokens"
    if isinstance(manifest, ClassifierManifest):
        return f"classifier of {len(manifest.labels)} label(s), pairs of up to {manifest.context_length} tokens"
    return f"{manifest.graph} graph"


def _figure(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _peak_bytes() -> int:
    import resource  # noqa: PLC0415  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _serve_options(manifest: AnyManifest, output: Path, *, use_demo: bool) -> str:
    name = "--demo" if use_demo else manifest.source.model_id
    revision = "" if manifest.source.revision == "main" else f" --revision {manifest.source.revision}"
    return f"{name} --dtype {manifest.dtype}{revision}" + (
        "" if output == Path("models_cache") else f" --cache-dir {output}"
    )
