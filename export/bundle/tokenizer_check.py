"""Compare the bundle's tokenizer with the source's, as transformers reads it.

tokenizer.json is the tokenizer of a model's training: transformers 4 and 5 write into it what their tokenizer does. So
the comparison is with the class that reads it as it is. Most other classes of transformers 5 take the vocabulary alone
and add parts of their own, which for a folder of transformers 4 are not always the same.

tokenizer.json is not the whole tokenizer, though: other files add tokens, and fields of tokenizer_config.json may
change its parts, such as `add_bos_token`.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from infrs.errors import SourceError

from .added_tokens import optional_json
from .tokenizer_file import check_text_growth, explained, open_tokenizer, token_ids
from .tokenizer_settings import apply_settings, ends_of_texts

_TEXT = "Hello,  World!\n\n\tx = 12345.678; naïve café, 北京 — Ünïcode 🙂 don't\r\n end "


def match_tokenizer(source: Path, path: Path, num_rows: int) -> None:
    """Make the tokenizer at `path` give the ids of the folder `source`, which has a tokenizer.json.

    num_rows: of the model's embedding. A token beyond them is not compared.
    Raises SourceError if the ids still differ.
    """
    reference = _reference(source)
    if reference is None or _agree(reference, open_tokenizer(path), num_rows):
        return
    reference.backend_tokenizer.save(str(path))
    if not _agree(reference, open_tokenizer(path), num_rows):
        raise SourceError(
            "tokenizer.json gives other tokens than transformers does by the fields of tokenizer_config.json; "
            "save the tokenizer again with transformers"
        )


def _reference(source: Path) -> PreTrainedTokenizerFast | None:
    """Return the source's tokenizer, or None if the installed transformers cannot make it."""
    names = optional_json(source / "tokenizer_config.json")
    with explained("transformers cannot make the tokenizer"):
        try:
            made: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
                source, local_files_only=True, **ends_of_texts(names)
            )
        except Exception:  # fields of a newer version, or files that this one reads differently: any type of error
            return None
    apply_settings(made.backend_tokenizer, names)
    check_text_growth(made.backend_tokenizer)
    return made


def _agree(reference: PreTrainedTokenizerFast, tokenizer: Tokenizer, num_rows: int) -> bool:
    """Return whether both give the same ids of a text with every added token, with special tokens and without."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = [str(token) for token, index in sorted(reference.get_added_vocab().items()) if index < num_rows]
    text = _TEXT + "".join(f"{token}a {token} {token}" for token in added) + _TEXT
    with explained("transformers cannot tokenise a text"):
        wanted = {
            special: reference(text, add_special_tokens=special, truncation=False).input_ids
            for special in (True, False)
        }
    return all(ids == token_ids(tokenizer, text, special=special) for special, ids in wanted.items())
