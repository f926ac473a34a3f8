"""Read the layout of a sentence-transformers folder (`modules.json` and its modules).

https://sbert.net/docs/package_reference/sentence_transformer/models.html. Every option is supported or refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from infrs.bundle.manifest import EMBEDDING_DTYPES, Dtype, Pooling
from infrs.errors import ExportError, SourceError

from .config_check import LARGEST, read_json, read_json_list

MODULES_FILE = "modules.json"
PROMPTS_FILE = "config_sentence_transformers.json"
TRANSFORMER_FILES = "sentence_*_config.json"  # sentence_bert_config.json, sentence_roberta_config.json and so on
_POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
_TRANSFORMER_KEYS = ("max_seq_length", "do_lower_case", "modality_config", "unpad_inputs")
_TRANSFORMER_DEFAULTS = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
_ACTIVATIONS = ("Identity", "Tanh", "ReLU")


@dataclass(frozen=True)
class Dense:
    """A product after the pooling. weights: its safetensors file. activation: the name of a class of torch.nn."""

    weights: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class Layout:
    """The steps from a text's token vectors to its vector.

    max_tokens: most tokens of a text, with special tokens; None: the transformer's maximum.
    lowercase: whether texts are lower-cased first. prompt: the prefix of every text.
    """

    pooling: Pooling
    dense: tuple[Dense, ...]
    normalize: bool
    max_tokens: int | None
    lowercase: bool
    prompt: str


def is_embedding_model(directory: Path) -> bool:
    """Return whether the folder has the layout of sentence-transformers."""
    return (directory / MODULES_FILE).is_file()


def check_dtype(dtype: Dtype) -> None:
    """Raise ExportError for a dtype that embedding models do not support."""
    if dtype not in EMBEDDING_DTYPES:
        raise ExportError(
            f"embedding models are not offered in {dtype}, because its vectors differ too much; "
            f"choose --dtype {', '.join(EMBEDDING_DTYPES)}",
            param="dtype",
        )


def read_layout(directory: Path) -> Layout:
    """Read the layout. Raises SourceError, with the name, for modules and options that infrs does not support."""
    modules = read_modules(directory)
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or modules[0][1] != directory:
        raise SourceError(f"{MODULES_FILE} must begin with a Transformer at '' and a Pooling; found {', '.join(kinds)}")
    rest, normalize = kinds[2:], kinds[-1] == "Normalize"
    if any(kind != "Dense" for kind in (rest[:-1] if normalize else rest)):
        raise SourceError(f"{MODULES_FILE} has {', '.join(rest)} after the pooling; infrs takes Dense, then Normalize")
    lowercase, max_tokens = _transformer(directory)
    prompts = _optional(directory / PROMPTS_FILE)
    prompt = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name")) or ""
    if normalize:
        _check_names(modules[-1][1].name, _optional(modules[-1][1] / "config.json"))
    pooling, includes_prompt = _pooling(modules[1][1])
    if prompt and not includes_prompt:
        raise SourceError("1_Pooling leaves out the prompt's tokens (include_prompt), which infrs does not offer")
    return Layout(
        pooling=pooling,
        dense=tuple(_dense(path) for kind, path in modules if kind == "Dense"),
        normalize=normalize,
        max_tokens=max_tokens,
        lowercase=lowercase,
        prompt=prompt,
    )


def read_modules(directory: Path) -> list[tuple[str, Path]]:
    """Return the kind and the folder of each module, in order. Raises SourceError for a path outside the folder."""
    listed = read_json_list(directory / MODULES_FILE)
    modules = []
    for module in sorted(listed, key=lambda module: int(module.get("idx", 0))):
        path, kind = module.get("path"), module.get("type")
        if not isinstance(path, str) or not isinstance(kind, str) or Path(path).name != path or path == "..":
            raise SourceError(f"{MODULES_FILE} names {path!r}, which is not a folder next to it")
        modules.append((kind.rpartition(".")[2], directory / path))
    return modules


def layout_files(directory: Path) -> list[Path]:
    """Return the files of the modules in their folders, which a bundle depends on besides the transformer's."""
    names = ("config.json", "model.safetensors")
    folders = [path for _, path in read_modules(directory) if path != directory]
    return [path / name for path in folders for name in names if (path / name).is_file()]


def _check_names(module: str, config: dict[str, Any]) -> None:
    """Raise SourceError unless a module after the pooling works on the texts' vectors."""
    for name in ("module_input_name", "module_output_name"):
        if config.get(name) not in (None, "sentence_embedding"):
            raise SourceError(f"{module} has {name} {config[name]!r:.60}, which infrs does not offer")


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _transformer(directory: Path) -> tuple[bool, int | None]:
    """Return whether texts are lower-cased, and their most tokens, which newer versions store with the tokenizer."""
    found = sorted(directory.glob(TRANSFORMER_FILES))
    config = read_json(found[0]) if found else {}
    for name, value in config.items():
        if value and name not in _TRANSFORMER_KEYS and value != _TRANSFORMER_DEFAULTS.get(name):
            raise SourceError(f"{found[0].name} has {name} {value!r:.60}, which infrs does not offer")
    tokenizer = _optional(directory / "tokenizer_config.json")
    longest = config.get("max_seq_length") or tokenizer.get("model_max_length")
    if longest is not None and (not isinstance(longest, int) or longest < 1):
        raise SourceError(f"the longest text (max_seq_length, model_max_length) is {longest!r}, not a number of tokens")
    return bool(config.get("do_lower_case")), longest


def _pooling(directory: Path) -> tuple[Pooling, bool]:
    config = read_json(directory / "config.json")
    named = config.get("pooling_mode")  # of newer versions; older ones have one switch for each mode
    modes = [named] if isinstance(named, str) else list(named or ())
    prefix = "pooling_mode_"
    modes = modes or [name.removeprefix(prefix) for name, on in config.items() if name.startswith(prefix) and on]
    modes = [mode.removesuffix("_tokens").removesuffix("_token") for mode in modes]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise SourceError(f"pooling by {', '.join(modes) or 'nothing'}; infrs offers one of {', '.join(_POOLINGS)}")
    return cast("Pooling", modes[0]), bool(config.get("include_prompt", True))


def _dense(directory: Path) -> Dense:
    config = read_json(directory / "config.json")
    _check_names(directory.name, config)
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise SourceError(f"{directory.name} has the activation {activation}; infrs offers {', '.join(_ACTIVATIONS)}")
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise SourceError(f"{directory.name} holds no model.safetensors; infrs does not load pickles")
    width, outputs = (_size(directory, config, name) for name in ("in_features", "out_features"))
    return Dense(weights, width, outputs, bool(config.get("bias", True)), activation)


def _size(directory: Path, config: dict[str, Any], name: str) -> int:
    size, largest = config.get(name), LARGEST["hidden_size"]
    if type(size) is not int or not 1 <= size <= largest:
        wanted = f"a whole number from 1 to {largest}"
        raise SourceError(f"{directory.name}/config.json gives {name} as {size!r:.60}, which is not {wanted}")
    return size
