"""The files of a bundle besides its graph: configuration, tokenizer, chat template and default sampling."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from infrs.bundle.manifest import Sampling, SpecialTokens
from infrs.errors import SourceError

from ..sources.config_check import read_json
from ..sources.resolve import Model
from .added_tokens import add_missing_tokens, named_tokens, optional_json, text
from .slow_tokenizer import check_converted, convert_tokenizer
from .templates import template_text, write_templates
from .tokenizer_check import match_tokenizer
from .tokenizer_file import check_tokenizer, open_tokenizer

_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
# Tokens that end a turn in chat templates; the configuration may name only the end of a document.
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|end_of_role|>", "<|eom_id|>")


def write_companions(model: Model, loaded: PreTrainedModel, directory: Path) -> None:
    """Write config.json, the tokenizer's files and, if there is one, generation_config.json. Raises SourceError."""
    config = directory / "config.json"
    if model.gguf is not None:
        from ..sources.gguf.tokenizer import write_tokenizer  # noqa: PLC0415  # needs the extra `demo`

        config.write_text(loaded.config.to_json_string())
        write_tokenizer(model.gguf, directory)
        check_tokenizer(directory / "tokenizer.json")
        return
    shutil.copyfile(model.directory / "config.json", config)
    for name in _COPIED:
        if (model.directory / name).is_file():
            shutil.copyfile(model.directory / name, directory / name)
    tokenizer = directory / "tokenizer.json"
    if is_converted := not tokenizer.is_file():
        convert_tokenizer(model.directory, tokenizer)
    check_tokenizer(tokenizer)
    num_rows = int(loaded.config.vocab_size)
    add_missing_tokens(model.directory, tokenizer, num_rows)
    if is_converted:
        check_converted(model.directory, tokenizer)
    else:
        match_tokenizer(model.directory, tokenizer, num_rows)
    write_templates(model.directory, directory)


def check_vocabulary(tokenizer: Tokenizer, num_rows: int) -> None:
    """Raise SourceError if a token has no row in the model's embedding."""
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if not 0 <= largest < num_rows:
        raise SourceError(
            f"tokenizer.json goes to token {largest}, the model has {num_rows}: they do not belong together"
        )


def special_tokens(directory: Path, num_rows: int) -> SpecialTokens:
    """Return ids by role from the files in `directory`. End tokens are those of all files and of the chat template.

    num_rows: of the model's embedding. Larger ids are left out. Ids without a token in the tokenizer count, because the
    model can sample the rows that fill up its vocabulary.
    """
    tokenizer = open_tokenizer(directory / "tokenizer.json")
    config = read_json(directory / "config.json")
    generation = optional_json(directory / "generation_config.json")
    names = optional_json(directory / "tokenizer_config.json")
    tokens = [named_tokens(names), optional_json(directory / "special_tokens_map.json")]
    configs = [generation, config, config.get("text_config") or {}]

    def ids(role: str) -> list[int]:
        contents = (text(part.get(f"{role}_token")) for part in tokens)
        named = (tokenizer.token_to_id(content) for content in contents if content is not None)
        numbered = (item for part in configs for item in _ids(part.get(f"{role}_token_id")))
        return [item for item in (*named, *numbered) if item is not None and item < num_rows]

    template = template_text(directory, names)
    turns = (tokenizer.token_to_id(token) for token in _END_OF_TURN if token in template)
    ends = {*ids("eos"), *ids("eot"), *(item for item in turns if item is not None)}
    bos, pad = ids("bos"), ids("pad")
    return SpecialTokens(bos=bos[0] if bos else None, eos=tuple(sorted(ends)), pad=pad[0] if pad else None)


def sampling(directory: Path, note: Callable[[str], None]) -> Sampling:
    """Return the sampling of generation_config.json in `directory`. An invalid value is omitted and passed to `note`.

    `do_sample` is ignored, as in vLLM: false is transformers' default and so rarely intentional. Clients of an API
    expect different answers to repeated requests.
    """
    generation = optional_json(directory / "generation_config.json")
    said = {name: generation[name] for name in Sampling.model_fields if generation.get(name) is not None}
    try:
        return Sampling.model_validate(said)
    except ValidationError as error:
        for fault in error.errors():
            [name] = fault["loc"]
            value = said.pop(str(name))
            note(f"generation_config.json: {name} {value!r:.40} is left out: {fault['msg']}")
        return Sampling.model_validate(said)


def _ids(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 32]
