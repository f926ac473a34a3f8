"""Open a `tokenizer.json` that may be hostile, and tokenise with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from infrs.errors import InfrsError, SourceError
from infrs.text.bounds.growth import check_growth

from ..sources.config_check import LARGEST, first_line, read_json
from ..sources.side_files import FILE_BYTES, LONGEST_TOKEN

_MOST_ITEMS = LARGEST["vocab_size"]


def check_tokenizer(path: Path, most: int = _MOST_ITEMS) -> None:
    """Raise SourceError for a tokenizer that no model needs: too many or too long tokens, or texts that grow.

    Nothing is tokenised. The server checks the growth again. most: tokens, merges or added tokens.
    """
    definition = read_json(path, limit=FILE_BYTES)
    model = definition.get("model")
    _check_counts(path.name, definition, model if isinstance(model, dict) else {}, most)
    check_text_growth(open_tokenizer(path))


def check_text_growth(tokenizer: Tokenizer) -> None:
    """Raise SourceError if a text becomes far longer before it is split into tokens, or gets many tokens added."""
    try:
        check_growth(tokenizer)
    except ValueError as error:
        raise SourceError(f"tokenizer.json is hostile: {error}; choose another model") from error


def open_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer at `path`. Raises SourceError if it is none."""
    with explained(f"{path.name} is not a readable tokenizer"):
        return Tokenizer.from_file(str(path))


def token_ids(tokenizer: Tokenizer, text: str, *, special: bool = True) -> list[int]:
    """Return the ids of a text, with special tokens or without. Raises SourceError if the tokenizer fails on it."""
    with explained("tokenizer.json cannot tokenise a text"):
        return list(tokenizer.encode(text, add_special_tokens=special).ids)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Convert errors and panics of the tokenizers library to SourceError.

    A panic is no Exception, and its report goes to the file descriptor of stderr, which is closed meanwhile.
    """
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    except InfrsError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise SourceError(f"{what} ({first_line(error):.200}); download it again") from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _check_counts(file: str, definition: dict[str, Any], model: dict[str, Any], most: int) -> None:
    parts = {"vocab": model.get("vocab"), "merges": model.get("merges"), "added_tokens": definition.get("added_tokens")}
    for name, items in parts.items():
        if isinstance(items, dict | list) and len(items) > most:
            raise SourceError(f"{file} has {len(items)} items of {name}, but {most} is the maximum; download it again")
    longest = max((len(token) for token in _tokens(parts["vocab"], parts["added_tokens"])), default=0)
    if longest > LONGEST_TOKEN:
        raise SourceError(
            f"{file} has a token of {longest} characters, but {LONGEST_TOKEN} is the maximum; download it again"
        )
    if model.get("dropout"):
        raise SourceError(
            f"{file} drops merges at random (dropout is {model['dropout']!r:.20}), so a text has no fixed tokens; "
            "set dropout to null"
        )


def _tokens(vocabulary: object, added: object) -> Iterator[str]:
    """Yield the tokens as written: keys of an object, first items of a list (Unigram), contents of added tokens."""
    for part in (vocabulary, added):
        for item in part if isinstance(part, dict | list) else ():
            first = item[0] if isinstance(item, list) and item else item
            token = first.get("content") if isinstance(first, dict) else first
            if isinstance(token, str):
                yield token
