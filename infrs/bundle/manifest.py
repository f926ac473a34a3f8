"""The format of a bundle, which the exporter writes and the server reads.

A bundle is a directory `<cache>/<slug>/<dtype>-<key>/` with `manifest.json` and the files it lists. It never changes
after it is published.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from infrs.bundle.states import LayerState, upgrade_manifest
from infrs.errors import BundleError, BundleNotFoundError
from infrs.spelling import nearest

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION: Literal[1] = 1
MANIFEST_MAX_BYTES = 1 << 20

Dtype = Literal["float32", "float16", "bfloat16", "int8", "int4"]
DtypeChoice = Literal["auto", Dtype]
EMBEDDING_DTYPES: tuple[Dtype, ...] = ("float32", "float16", "bfloat16", "int8")
# What `auto` means for each kind of model: the first is exported, the others are served if they are cached.
# Faithful dtypes come first. Embeddings are stored and compared for years, so for them float32 beats int8's speed.
AUTO_DTYPES: dict[str, tuple[Dtype, ...]] = {
    "chat": ("int8", "float32", "float16", "bfloat16", "int4"),
    "embedding": (*EMBEDDING_DTYPES, "int4"),
    "classifier": (*EMBEDDING_DTYPES, "int4"),
}
GraphKind = Literal["fused", "plain"]
RopeFactors = Literal["short", "long"]
Activation = Literal["sigmoid", "softmax", "identity"]
Pooling = Literal["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len"]
MAX_DIMENSIONS = 65536
MAX_PROMPTS = 256
MAX_PROMPT_CHARS = 4096
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A bare file name: no separator, no leading dot, so that a manifest can never point outside its bundle.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=128)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Source(_Frozen):
    """The origin of the weights.

    commit: the resolved 40-hex commit of a Hub model. host: the Hub's host, with a port other than the default; None
    in older bundles.
    """

    kind: Literal["hub", "local", "gguf"]
    model_id: str
    revision: str
    commit: str | None = None
    host: str | None = None
    sha256: Sha256 | None = None  # of the weight file(s), for sources without a commit


class Recipe(_Frozen):
    """The storage of the weights: a name, its options, and the hash of both with the exporter's version."""

    name: str
    options: dict[str, str | int | float | bool]
    hash: Sha256


class FileEntry(_Frozen):
    """One file of the bundle: size in bytes and SHA-256."""

    size: int = Field(ge=0)
    sha256: Sha256


class SpecialTokens(_Frozen):
    """The ids of special tokens by role. Generation ends at any of `eos`."""

    bos: int | None
    eos: tuple[int, ...] = Field(strict=False)
    pad: int | None = None


class Sampling(_Frozen):
    """The default sampling of the model's author; None for a parameter without a default.

    Fields and bounds are those of a request: see `SamplingParams`.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, lt=1 << 31)
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100)


class _Bundle(_Frozen):
    """The fields of every manifest."""

    schema_version: Literal[1] = SCHEMA_VERSION
    source: Source
    dtype: Dtype
    recipe: Recipe
    architecture: str  # `model_type` of the source's config.json
    graph_file: FileName
    vocab_size: int = Field(ge=1, le=1 << 24)
    context_length: int = Field(ge=1, le=1 << 24)
    files: dict[FileName, FileEntry]
    tool_versions: dict[str, str]
    parity: dict[str, float | int | str]
    created: str  # UTC, ISO 8601


class Manifest(_Bundle):
    """The manifest of a chat model: all that the server needs before it opens the graph.

    graph_reason: why the graph is plain; empty if it is fused. states: of each layer, in order.
    batch_invariant: a row's bits do not depend on the rows of the same run, so rows can share a run.
    chunk_invariant: with infrs's kernels, a token's bits do not depend on how its sequence is split into runs.
    rope_factors: the factors of LongRoPE at all lengths; None for models without them.
    sampling: older bundles have none.
    """

    kind: Literal["chat"] = "chat"
    graph: GraphKind
    graph_reason: str = ""
    states: tuple[LayerState, ...] = Field(min_length=1, max_length=1024, strict=False)
    batch_invariant: bool
    chunk_invariant: bool
    rope_factors: RopeFactors | None = None
    special_tokens: SpecialTokens
    sampling: Sampling = Sampling()

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, fields: Any) -> Any:  # noqa: ANN401  # JSON, or what the constructor was given
        return upgrade_manifest(fields) if isinstance(fields, dict) else fields


class EmbeddingManifest(_Bundle):
    """The manifest of an embedding model. `infrs.bundle.graph_signature` describes its graph.

    context_length: maximum tokens of a text, with special tokens. pooling: how token vectors become a text's vector.
    normalized: whether the vectors have length 1. prompt: the prefix of every text without a chosen prompt.
    prompts: prefixes to choose from, by name. default_dimensions: the length of vectors if a request gives none;
    None for `dimensions`. shorter: the lengths besides `dimensions` that a request may choose; None for any.
    Older bundles have none of the last three.
    """

    kind: Literal["embedding"] = "embedding"
    dimensions: int = Field(ge=1, le=MAX_DIMENSIONS)
    pooling: Pooling
    normalized: bool
    prompt: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    prompts: dict[str, Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]] = Field(default={}, max_length=MAX_PROMPTS)
    default_dimensions: int | None = Field(default=None, ge=1)
    shorter: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, strict=False)


class ClassifierManifest(_Bundle):
    """The manifest of a sequence classifier, such as a cross-encoder. Its graph: `infrs.bundle.graph_signature`.

    context_length: maximum tokens of a text or a pair, with special tokens. labels: one for each logit; a cross-encoder
    has one. activation: turns logits into scores. token_types: whether the graph takes `token_type_ids`.
    """

    kind: Literal["classifier"] = "classifier"
    labels: tuple[Annotated[str, Field(max_length=256)], ...] = Field(min_length=1, max_length=4096, strict=False)
    activation: Activation
    token_types: bool


AnyManifest = Manifest | EmbeddingManifest | ClassifierManifest
KINDS = {"chat": "a chat model", "embedding": "an embedding model", "classifier": "a classifier"}  # for messages


def _kind(value: Any) -> str:  # noqa: ANN401  # JSON or a manifest
    """Return the kind of a manifest; older bundles have none and are chat models."""
    kind = value.get("kind", "chat") if isinstance(value, dict) else getattr(value, "kind", "chat")
    return str(kind)


_MANIFEST: TypeAdapter[AnyManifest] = TypeAdapter(
    Annotated[
        Annotated[Manifest, Tag("chat")]
        | Annotated[EmbeddingManifest, Tag("embedding")]
        | Annotated[ClassifierManifest, Tag("classifier")],
        Discriminator(
            _kind,
            custom_error_type="kind",
            custom_error_message="kind should be 'chat', 'embedding' or 'classifier'",
        ),
    ]
)


def slug(model_id: str) -> str:
    """Return the cache folder of a model id: `org--name` for `org/name`."""
    return model_id.replace("/", "--")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex. It is read in pieces, and hashing releases the GIL."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(bundle: Path) -> AnyManifest:
    """Parse `bundle/manifest.json`.

    Raises BundleError, one line, if it is absent, too large, malformed or of another schema version.
    """
    path = bundle / MANIFEST_FILE
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # reading a pipe would never end
            raise BundleError(f"{path} is not a plain file; export the model again")
        if path.stat().st_size > MANIFEST_MAX_BYTES:
            raise BundleError(f"{path} is larger than {MANIFEST_MAX_BYTES} bytes; export the model again")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(
            f"there is no {path}, which every bundle has; name a folder like models_cache/org--name/int8-0123456789ab, "
            "or export the model again"
        ) from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); export the model again") from error
    try:
        return _MANIFEST.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the file"  # the first part is the kind
        raise BundleError(f"{path}: {where}: {first['msg']}; export the model again") from error


def chat_manifest(manifest: AnyManifest) -> Manifest:
    """Return the manifest if it is a chat model's. Raises BundleError if it is another kind's."""
    if isinstance(manifest, Manifest):
        return manifest
    raise BundleError(f"{manifest.source.model_id} is {KINDS[manifest.kind]}; name a chat model's bundle")


def find_bundle(cache: Path, model_id: str, revision: str, dtype: DtypeChoice) -> Path:
    """Return the newest published bundle of a model; for `auto`, of the first dtype of AUTO_DTYPES that is cached.

    `revision` may be the requested name or the commit.
    Raises BundleNotFoundError. Directories without a readable manifest are skipped.
    """
    found = []
    for path in (cache / slug(model_id)).glob("*-*" if dtype == "auto" else f"{dtype}-*"):
        try:
            manifest = read_manifest(path)
        except BundleError:
            continue
        source = manifest.source
        matches = source.model_id == model_id and revision in (source.revision, source.commit)
        if matches and path.name.startswith(f"{manifest.dtype}-"):
            found.append((manifest, path))
    if not found:
        kind = "bundle" if dtype == "auto" else f"{dtype} bundle"
        raise BundleNotFoundError(
            f"no {kind} of {model_id} at revision {revision} in {cache}{_instead(cache, model_id)}"
        )
    return preferred(found)


def preferred(bundles: Iterable[tuple[AnyManifest, Path]]) -> Path:
    """Return the bundle with the first dtype in AUTO_DTYPES, the newest if there are several."""
    newest_first = sorted(bundles, key=lambda bundle: (bundle[0].created, bundle[1]), reverse=True)
    return min(newest_first, key=lambda bundle: AUTO_DTYPES[bundle[0].kind].index(bundle[0].dtype))[1]


def bundles(cache: Path) -> Iterator[tuple[AnyManifest, Path]]:
    """Yield the manifest and the folder of each bundle in a cache that `find_bundle` can find."""
    for path in cache.glob(f"[!.]*/*/{MANIFEST_FILE}"):
        bundle = path.parent
        try:
            manifest = read_manifest(bundle)
        except BundleError:
            continue
        if bundle.parent.name == slug(manifest.source.model_id) and bundle.name.startswith(f"{manifest.dtype}-"):
            yield manifest, bundle


def manifests(cache: Path) -> Iterator[AnyManifest]:
    """Yield the manifests of those bundles."""
    return (manifest for manifest, _ in bundles(cache))


def _instead(cache: Path, model_id: str) -> str:
    """Return a hint with the cached bundles of a model, or of the model with the most similar id."""
    held: dict[str, set[str]] = {}
    for manifest in manifests(cache):
        source = manifest.source
        kept = manifest.dtype if source.revision == "main" else f"{manifest.dtype} at revision {source.revision}"
        held.setdefault(source.model_id, set()).add(kept)
    meant = nearest(model_id, held)
    return f" (there is {meant} in {', '.join(sorted(held[meant]))})" if meant else ""
