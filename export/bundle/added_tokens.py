"""Add tokens from other files of a folder to tokenizer.json, with the ids of transformers.

The files are read like in transformers' fast tokenizers: `added_tokens_decoder` of tokenizer_config.json, or else
added_tokens.json and special_tokens_map.json, all of transformers 4; then every special token that is not among them.
transformers 5 names special tokens alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from infrs.errors import SourceError

from ..sources.config_check import read_json
from ..sources.side_files import FILE_BYTES
from .tokenizer_file import open_tokenizer

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_OWN_NAMES = ("extra_special_tokens", "model_specific_special_tokens")  # the first may also be a list without names
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def add_missing_tokens(source: Path, tokenizer_path: Path, num_rows: int) -> None:
    """Add to the tokenizer at `tokenizer_path` the tokens that are only in the other files of `source`.

    num_rows: of the model's embedding. A token beyond them, often an untrained padding token, is omitted.
    Truncation and padding are removed. The file is written only if it changes.
    Raises SourceError if a token does not get the id that a file gives.
    """
    names = optional_json(source / "tokenizer_config.json")
    declared = names.get("added_tokens_decoder")
    if declared is None:
        names = {**names, **optional_json(source / "special_tokens_map.json")}
        declared = {str(index): token for token, index in optional_json(source / "added_tokens.json").items()}
    special = {text(token): token for token in _special(names)}
    tokenizer = open_tokenizer(tokenizer_path)
    changed = tokenizer.truncation is not None or tokenizer.padding is not None  # a bundle neither cuts nor pads
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if missing := list(_missing(tokenizer, declared, special, num_rows)):
        tokenizer.add_tokens(missing)
    if changed or missing:
        tokenizer.save(str(tokenizer_path))


def _missing(
    tokenizer: Tokenizer, declared: object, special: dict[str | None, Any], num_rows: int
) -> Iterator[AddedToken]:
    """Yield the tokens to add, in order. Each gets the id of the piece with its text, or else the first free id."""
    added = tokenizer.get_added_tokens_decoder()
    known = {token.content for token in added.values()}
    free = max(tokenizer.get_vocab_size(with_added_tokens=False), max(added, default=-1) + 1)
    for index, token in (*sorted(_by_id(declared)), *((None, token) for token in special.values())):
        content = text(token)
        if not content or content in known:
            continue
        piece: int | None = tokenizer.token_to_id(content)
        given = free if piece is None else piece
        if given >= num_rows:
            continue
        if index not in (None, given):
            raise SourceError(
                f"the tokenizer's files give token {content!r:.60} id {index}, but after the tokens of tokenizer.json "
                f"it gets id {given}; save the tokenizer again"
            )
        yield _added(token, is_special=content in special)
        known.add(content)
        free = max(free, given + 1)


def optional_json(path: Path) -> dict[str, Any]:
    """Return the object in a tokenizer's file; empty if there is none. Raises SourceError."""
    return read_json(path, limit=FILE_BYTES) if path.is_file() else {}


def text(token: object) -> str | None:
    """Return the text of a token, which is a string or the fields of an AddedToken; None for anything else."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _by_id(declared: object) -> Iterator[tuple[int, Any]]:
    if not isinstance(declared, dict):
        raise SourceError(
            f"tokenizer_config.json gives added_tokens_decoder as {declared!r:.60}, which is not an object"
        )
    for index, token in declared.items():
        if not index.isdecimal() or text(token) is None:
            raise SourceError(
                f"the tokenizer's files give token {token!r:.60} id {index!r:.20}; save the tokenizer again"
            )
        yield int(index), token


def named_tokens(names: dict[str, Any]) -> dict[str, Any]:
    """Return the special tokens that have a name, such as `eos_token`, in the order of transformers: by role first.

    names: the object of tokenizer_config.json. A model's own names are fields of it, or in an object in a field.
    """
    roles = {f"{role}_token": names.get(f"{role}_token") for role in _ROLES}
    own = {name: token for name, token in names.items() if name.endswith("_token") and isinstance(token, str)}
    groups = (names.get(field) for field in _OWN_NAMES)
    found = roles | own | {name: token for group in groups if isinstance(group, dict) for name, token in group.items()}
    return {name: token for name, token in found.items() if text(token)}


def _special(names: dict[str, Any]) -> Iterator[Any]:
    """Yield the special tokens in the order of transformers: with names, then those without."""
    yield from named_tokens(names).values()
    for key in ("additional_special_tokens", "extra_special_tokens"):  # of transformers 4, and of 5
        more = names.get(key) or []
        if not isinstance(more, dict | list):
            raise SourceError(f"the tokenizer's files give {key} as {more!r:.60}, which is not a list of tokens")
        yield from (token for token in more if isinstance(more, list) and text(token))


def _added(token: Any, *, is_special: bool) -> AddedToken:  # noqa: ANN401  # of a JSON file
    fields = token if isinstance(token, dict) else {}
    flags = {flag: bool(fields[flag]) for flag in _FLAGS if flag in fields}
    return AddedToken(text(token), special=bool(is_special or fields.get("special")), **flags)
