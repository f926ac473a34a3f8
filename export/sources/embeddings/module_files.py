"""Read the layout of a sentence-transformers folder (`modules.json` and its modules).

https://sbert.net/docs/package_reference/sentence_transformer/models.html. Every option is supported or refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, get_args

from infrs.bundle.manifest import Pooling
from infrs.errors import SourceError

from ..config_check import LARGEST, read_json, read_json_list
from .layout import Dense, Layout, Normalize, Step
from .prompts import optional_json, read_lengths, read_prompts

MODULES_FILE = "modules.json"
TRANSFORMER_FILES = "sentence_*_config.json"  # sentence_bert_config.json, sentence_roberta_config.json and so on
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")  # classes of torch.nn
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
_PACKAGE = "sentence_transformers."
_TRANSFORMER_KEYS = ("max_seq_length", "do_lower_case", "modality_config", "unpad_inputs")
_TRANSFORMER_DEFAULTS = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
_POOLING_KEYS = ("word_embedding_dimension", "embedding_dimension", "include_prompt", "pooling_mode")
_DENSE_KEYS = ("in_features", "out_features", "bias", "activation_function")
_NAMES = ("module_input_name", "module_output_name")
_MODE = "pooling_mode_"


def has_modules(directory: Path) -> bool:
    """Return whether the folder has the layout of sentence-transformers."""
    return (directory / MODULES_FILE).is_file()


def read_layout(directory: Path) -> Layout:
    """Read the layout. Raises SourceError, with the name, for modules and options that infrs does not support."""
    modules = read_modules(directory)
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or modules[0][1] != directory:
        raise SourceError(f"{MODULES_FILE} must begin with a Transformer at '' and a Pooling; found {', '.join(kinds)}")
    pooling, includes_prompt = _pooling(modules[1][1])
    prompts = read_prompts(directory)
    if not includes_prompt and any((prompts.default, *prompts.by_name.values())):
        raise SourceError("1_Pooling leaves out the prompt's tokens (include_prompt), which infrs does not offer")
    lowercase, max_tokens = read_transformer(directory)
    return Layout(
        pooling=pooling,
        steps=tuple(step for kind, path in modules[2:] for step in _steps(kind, path)),
        max_tokens=max_tokens,
        lowercase=lowercase,
        prompts=prompts,
        lengths=read_lengths(directory),
    )


def _steps(kind: str, directory: Path) -> list[Step]:
    """Return the steps of a module after the pooling: none for a dropout, which does nothing outside training."""
    match kind:
        case "Dense":
            return [_dense(directory)]
        case "Normalize":
            _check_names(directory.name, optional_json(directory / "config.json"))
            return [Normalize()]
        case "Dropout":
            return []
        case _:
            raise SourceError(f"{MODULES_FILE} has {kind} after the pooling; infrs takes Dense, Normalize and Dropout")


def read_modules(directory: Path) -> list[tuple[str, Path]]:
    """Return the kind and the folder of each module, in order. Raises SourceError for a path outside the folder."""
    listed = read_json_list(directory / MODULES_FILE)
    modules = []
    for module in sorted(listed, key=lambda module: int(module.get("idx", 0))):
        path, kind = module.get("path"), module.get("type")
        if not isinstance(path, str) or not isinstance(kind, str) or Path(path).name != path or path == "..":
            raise SourceError(f"{MODULES_FILE} names {path!r}, which is not a folder next to it")
        if not kind.startswith(_PACKAGE):
            raise SourceError(
                f"{MODULES_FILE} names {kind!r:.60}, code from the model's repository, which infrs never runs"
            )
        modules.append((kind.rpartition(".")[2], directory / path))
    return modules


def layout_files(directory: Path) -> list[Path]:
    """Return the files of the modules in their folders, which a bundle depends on besides the transformer's."""
    names = ("config.json", "model.safetensors")
    folders = [path for _, path in read_modules(directory) if path != directory]
    return [path / name for path in folders for name in names if (path / name).is_file()]


def read_transformer(directory: Path) -> tuple[bool, int | None]:
    """Return whether texts are lower-cased, and their most tokens, which newer versions store with the tokenizer."""
    found = sorted(directory.glob(TRANSFORMER_FILES))
    config = read_json(found[0]) if found else {}
    for name, value in config.items():
        if value and name not in _TRANSFORMER_KEYS and value != _TRANSFORMER_DEFAULTS.get(name):
            raise SourceError(f"{found[0].name} has {name} {value!r:.60}, which infrs does not offer")
    tokenizer = optional_json(directory / "tokenizer_config.json")
    longest = config.get("max_seq_length") or tokenizer.get("model_max_length")
    if longest is not None and (not isinstance(longest, int) or longest < 1):
        raise SourceError(f"the longest text (max_seq_length, model_max_length) is {longest!r}, not a number of tokens")
    return bool(config.get("do_lower_case")), longest


def _check_names(module: str, config: dict[str, Any]) -> None:
    """Raise SourceError unless a module after the pooling works on the texts' vectors."""
    for name in _NAMES:
        if config.get(name) not in (None, "sentence_embedding"):
            raise SourceError(f"{module} has {name} {config[name]!r:.60}, which infrs does not offer")


def _check_keys(module: str, config: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raise SourceError, with the name, for an option that is on and that infrs does not know."""
    for name, value in config.items():
        if value and name not in known:
            raise SourceError(f"{module} has {name} {value!r:.60}, which infrs does not offer")


def _pooling(directory: Path) -> tuple[Pooling, bool]:
    """Return the pooling, and whether it includes the tokens of the prompt."""
    config = read_json(directory / "config.json")
    switches = [name for name in config if name.startswith(_MODE)]
    _check_keys(directory.name, config, (*_POOLING_KEYS, *switches))
    named = config.get("pooling_mode")  # of newer versions; older ones have one switch for each mode
    modes = [named] if isinstance(named, str) else list(named or ())
    modes = modes or [name.removeprefix(_MODE) for name in switches if config[name]]
    modes = [str(mode).removesuffix("_tokens").removesuffix("_token") for mode in modes]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise SourceError(f"pooling by {', '.join(modes) or 'nothing'}; infrs offers one of {', '.join(POOLINGS)}")
    return cast("Pooling", modes[0]), bool(config.get("include_prompt", True))


def _dense(directory: Path) -> Dense:
    config = read_json(directory / "config.json")
    _check_names(directory.name, config)
    _check_keys(directory.name, config, (*_DENSE_KEYS, *_NAMES))
    path = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = path.rpartition(".")[2]
    if activation not in ACTIVATIONS or not path.startswith("torch.nn."):
        raise SourceError(f"{directory.name} has the activation {path:.60}; infrs offers {', '.join(ACTIVATIONS)}")
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
