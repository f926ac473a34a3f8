"""The export pipeline: source -> model -> graph -> parity -> bundle."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from infrs.bundle.local_models import local_path, read_local, remember
from infrs.bundle.manifest import (
    AUTO_DTYPES,
    AnyManifest,
    ClassifierManifest,
    Dtype,
    DtypeChoice,
    EmbeddingManifest,
    Manifest,
    Pooling,
    Recipe,
    read_manifest,
)
from infrs.bundle.states import stored
from infrs.engine.runners.runner import Rows
from infrs.errors import BundleError, ExportError, InfrsError, SourceError

from .bundle.publish import Place, check_space, file_entries, full_disk_explained, publish, staging
from .hub.fetch import MAX_MODEL_BYTES
from .progress import Progress
from .recipes import recipe as recipes
from .recipes.floats import HALF_DTYPES
from .sources import demo
from .sources.config_check import NEEDS_CODE, first_line, names_code, read_json
from .sources.embeddings.find import check_dtype, is_classifier, is_embedding_model
from .sources.resolve import Model, check_source, resolve

_TOOLS = ("infrs", "onnx", "optimum", "optimum-onnx-naf", "torch", "transformers", "onnxruntime")


def export_model(
    model: str,
    *,
    revision: str = "main",
    dtype: DtypeChoice = "auto",
    output: Path,
    force: bool = False,
    model_id: str | None = None,
    context_length: int | None = None,
    pooling: Pooling | None = None,
    max_model_bytes: int = MAX_MODEL_BYTES,
    progress: bool = True,
    on_build: Callable[[], None] = lambda: None,
) -> Path:
    """Export `model` into the cache `output` and return its bundle; an existing bundle is returned unchanged.

    model: a Hub id, a Hugging Face folder, a `.gguf` file or `demo.MODEL_ID`. dtype: `auto` is the first one of
    AUTO_DTYPES for the kind of model. model_id: the id to serve it under;
    default the Hub id, or the folder's or file's name. context_length: longest context to serve; default the model's.
    pooling: of an embedding model without modules.json. A model that writes text becomes one by it.
    max_model_bytes: the maximum size of a Hub model's files.
    force: export even if the bundle is there, and replace it. on_build: called if this call makes the bundle.
    Raises SourceError, ParityError, DiskFullError, ExportError; then nothing is published.
    """
    with _explained(model), Progress(progress) as report, full_disk_explained(output):
        path = local_path(model)
        local = (
            None if path is None else read_local(path)
        )  # before its files are read, so that a later change is detected
        found = resolve(
            model,
            revision=revision,
            model_id=model_id,
            max_bytes=max_model_bytes,
            note=report.note,
            stage=report.stage,
        )
        kind = _kind(found, pooling)
        if kind != "chat" and names_code(read_json(found.directory / "config.json")):
            raise SourceError(NEEDS_CODE)  # such code often changes the attention, and keeps the names of classes
        stored: Dtype = AUTO_DTYPES[kind][0] if dtype == "auto" else dtype
        if kind != "chat":
            check_dtype(stored)
        recipe = recipes.recipe(stored)
        place = Place(output, found.source.model_id, stored, export_key(found, recipe, context_length, pooling))

        def build(directory: Path) -> AnyManifest:
            on_build()
            check_source(found)
            common: dict[str, Any] = {"source": found.source, "dtype": stored, "recipe": recipe}
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads must not spin on a shared machine
            if kind == "chat":
                return _build_chat(found, stored, directory, common, context_length=context_length, report=report)
            if kind == "classifier":
                from .classifier import build_classifier  # noqa: PLC0415  # as below

                facts = build_classifier(found, stored, directory, context_length=context_length, report=report)
                return ClassifierManifest(**common, **facts, **_last(directory))
            from .embedding import build_embedding  # noqa: PLC0415  # torch and transformers take seconds to import

            facts = build_embedding(
                found, stored, directory, context_length=context_length, pooling=pooling, report=report
            )
            return EmbeddingManifest(**common, **facts, **_last(directory))

        if force or not _is_published(place):
            _publish(place, build, force=force, report=report)
        if local is not None:
            remember(output, local, place.final)
        return place.final


def _publish(place: Place, build: Callable[[Path], AnyManifest], *, force: bool, report: Progress) -> None:
    """Publish the result of `build`, unless another process published the bundle in the meantime."""
    try:
        place.cache.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError) as error:  # a broken link, or a parent that is not a folder
        raise ExportError(f"{place.cache} cannot be made ({error.strerror}); choose another --output") from error
    with staging(place, waiting=lambda: report.note("waiting for another export of the same bundle")) as directory:
        if force or not _is_published(place):
            publish(place, build(directory))


@contextmanager
def _explained(model: str) -> Iterator[None]:
    """Convert any error of a library to ExportError: invalid files can cause any exception."""
    try:
        yield
    except (InfrsError, ModuleNotFoundError):  # the second means a missing extra: `entry.py` names it
        raise
    except BaseException as error:
        # A panic of a Rust library is no Exception; pyo3 makes its class in each library and exports none.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ExportError(
            f"{model} could not be exported: {first_line(error)}; check its files, or report this model"
        ) from error


def export_key(model: Model, recipe: Recipe, context_length: int | None, pooling: Pooling | None = None) -> str:
    """Return a hash, 12 hex digits, of all that defines a bundle: content, served name, recipe, context, pooling."""
    source = model.source
    parts = [model.content, source.model_id, source.revision, recipe.hash, context_length, version("transformers")]
    parts += [pooling] if pooling else []  # the bundles of other models keep their keys
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _last(directory: Path) -> dict[str, Any]:
    """Return the manifest's fields about the files of a complete bundle."""
    _only_files(directory)
    return {
        "files": file_entries(directory),
        "tool_versions": {name: version(name) for name in _TOOLS},
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
    }


def _build_chat(
    found: Model,
    dtype: Dtype,
    directory: Path,
    common: dict[str, Any],
    *,
    context_length: int | None,
    report: Progress,
) -> Manifest:
    """Fill `directory` with the bundle of a chat model and return its manifest. `common`: the fields known before."""
    import torch  # noqa: F401, PLC0415  # first: without it, transformers raises errors that do not name it

    from infrs.engine.runners.opening import open_runner  # noqa: PLC0415
    from infrs.native.options import PRECISE  # noqa: PLC0415

    from .bundle.companions import check_vocabulary, sampling, special_tokens, write_companions  # noqa: PLC0415
    from .bundle.tokenizer_file import open_tokenizer, token_ids  # noqa: PLC0415
    from .graph.convert import convert  # noqa: PLC0415
    from .graph.fusions.architectures import default_context, fix_rope_factors, rope_factors, why_plain  # noqa: PLC0415
    from .parity import chat as parity  # noqa: PLC0415
    from .recipes.calibration import measure_moments  # noqa: PLC0415
    from .sources.torch_model import load_model, round_weights  # noqa: PLC0415

    report.note(f"loading {found.source.model_id}")
    model = load_model(found, partial(report.stage, "gguf"))
    architecture = str(model.config.model_type)
    if names_code(model.config.to_dict()):
        report.note(f"config.json names code, which never runs; transformers' own {type(model).__name__} is used")
    check_space(directory, recipes.stored_bytes(dtype, model.num_parameters()))
    write_companions(found, model, directory)
    tokenizer = open_tokenizer(directory / "tokenizer.json")
    check_vocabulary(tokenizer, int(model.config.vocab_size))
    if dtype in HALF_DTYPES:
        round_weights(model, HALF_DTYPES[dtype])
    report.note("recording the source model's outputs")
    served = context_length or default_context(model.config) or parity.MAX_TOKENS
    longest = min(served, parity.MAX_TOKENS)
    factors = rope_factors(model.config, served)
    fix_rope_factors(model, served)
    if factors:
        report.note(f"with a context of {served} tokens, LongRoPE's {factors} factors serve all lengths")

    encode = partial(token_ids, tokenizer)
    passages = parity.record(model, encode, longest)
    moments = None
    if dtype in recipes.CALIBRATED_DTYPES and not why_plain(model):
        measured = partial(report.stage, "calibration")
        moments = measure_moments(model, encode, longest, measured)
    conversion = convert(
        model,
        directory,
        recipes.lowering(dtype),
        context_length=context_length,
        moments=moments,
        progress=report.stage,
    )
    if conversion.reason:
        report.note(f"plain graph, slower: {conversion.reason}")
    del model
    gc.collect()  # the session below needs the memory
    report.note("comparing the bundle with its source")
    is_fused = conversion.graph == "fused"
    in_blocks = is_fused and dtype in recipes.BLOCK_DTYPES
    # ONNX Runtime's MoE rounds by the number of tokens of an expert; its QMoE and infrs's operators do not.
    is_invariant = in_blocks or (is_fused and not conversion.has_moe)
    manifest = Manifest(
        **common,
        architecture=architecture,
        graph=conversion.graph,
        graph_reason=conversion.reason,
        graph_file=conversion.graph_file,
        states=stored(conversion.states, "float16" if is_fused and dtype in recipes.NARROW_STATES else "float32"),
        batch_invariant=is_invariant,
        chunk_invariant=is_invariant,
        vocab_size=conversion.vocab_size,
        context_length=conversion.context_length,
        rope_factors=factors,
        special_tokens=special_tokens(directory, conversion.vocab_size),
        sampling=demo.SAMPLING if found.source.model_id == demo.MODEL_ID else sampling(directory, report.note),
        parity={},
        **_last(directory),
    )
    opened = partial(open_runner, directory, manifest, Rows(1, parity.MAX_TOKENS), threads=0, spin=False)
    figures = parity.check(dtype, opened(), passages)
    if dtype in parity.ROUNDED_INPUTS:
        figures |= parity.check_precise(dtype, opened(kernels=PRECISE), passages)
    return manifest.model_copy(update={"parity": figures})


def _kind(found: Model, pooling: Pooling | None) -> Literal["chat", "embedding", "classifier"]:
    """Return the kind of a model. Raises ExportError for a pooling of a `.gguf` file."""
    is_folder = found.gguf is None
    if is_folder and pooling is None and is_classifier(found.directory):
        return "classifier"
    if is_folder:
        return "embedding" if is_embedding_model(found.directory, pooling) else "chat"
    if pooling is not None:
        raise ExportError(
            "infrs exports .gguf files as chat models, which have no pooling; leave --pooling out", param="pooling"
        )
    return "chat"


def _is_published(place: Place) -> bool:
    """Return whether the bundle exists and is readable."""
    try:
        read_manifest(place.final)
    except BundleError:
        return False
    return True


def _only_files(directory: Path) -> None:
    """Delete folders that the exporter left; a bundle has files only."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.is_symlink():
            raise ExportError(f"{path.name} is a link, which a bundle never holds; report this model")
