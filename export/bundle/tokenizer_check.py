"""Compare the bundle's tokenizer with the source's own tokenizer class.

tokenizer.json is not the whole tokenizer: a class of transformers may change its parts by fields of
tokenizer_config.json, such as `add_bos_token`, and adds tokens from other files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from infrs.errors import SourceError

from .tokenizer_file import check_text_growth, explained, open_tokenizer, token_ids

_TEXT = "Hello,  World!\n\n\tx = 12345.678; naïve café, 北京 — Ünïcode 🙂 don't\r\n end "


def match_tokenizer(source: Path, path: Path, num_rows: int) -> None:
    """Make the tokenizer at `path` give the ids of the source's own class, if transformers has that class.

    num_rows: of the model's embedding. A token beyond them is not compared.
    Raises SourceError if the ids still differ.
    """
    reference = _reference(source)
    if reference is None or _agree(reference, open_tokenizer(path), num_rows):
        return
    if reference.is_fast:
        reference.backend_tokenizer.save(str(path))
    if not _agree(reference, open_tokenizer(path), num_rows):
        raise SourceError(
            f"tokenizer.json gives other tokens than {type(reference).__name__}, the class that tokenizer_config.json "
            "names; save the tokenizer again with transformers"
        )


def _reference(source: Path) -> Any:  # noqa: ANN401  # one of many classes without a common type
    """Return the source's own tokenizer, or None if the installed transformers cannot make it."""
    with explained("transformers cannot make the tokenizer"):
        try:
            made = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False, local_files_only=True)  # type: ignore[no-untyped-call]
        except Exception:  # a class of a newer version, or files that this one reads differently: any type of error
            return None
    if made.is_fast:
        check_text_growth(made.backend_tokenizer)
    return made


def _agree(reference: Any, tokenizer: Tokenizer, num_rows: int) -> bool:  # noqa: ANN401  # as above
    """Return whether both give the same ids of a text with every added token, with special tokens and without."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = [str(token) for token, index in sorted(reference.get_added_vocab().items()) if index < num_rows]
    text = _TEXT + "".join(f"{token}a {token} {token}" for token in added) + _TEXT
    with explained(f"{type(reference).__name__} cannot tokenise a text"):
        wanted = {
            special: reference(text, add_special_tokens=special, truncation=False).input_ids
            for special in (True, False)
        }
    return all(ids == token_ids(tokenizer, text, special=special) for special, ids in wanted.items())
