"""Make the tokenizer.json of a folder that has the vocabulary of a slow tokenizer alone, as older models have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from infrs.errors import SourceError

from .tokenizer_file import explained

_VOCABULARIES = (("vocab.txt",), ("vocab.json", "merges.txt"))  # of WordPiece, and of byte-level BPE


def convert_tokenizer(source: Path, path: Path) -> None:
    """Write to `path` the tokenizer that transformers makes of the vocabulary in the folder `source`.

    Raises SourceError unless the vocabulary is complete. If files are missing, transformers makes a tokenizer that has
    special tokens only.
    """
    if is_sentencepiece(source):
        from .sentencepiece_model import convert_sentencepiece  # noqa: PLC0415  # few models need the library

        convert_sentencepiece(source, path)
        return
    if not any(_has(source, names) for names in _VOCABULARIES):
        raise SourceError(
            "the model has no tokenizer.json, and neither tokenizer.model, vocab.txt nor vocab.json and merges.txt to "
            "make one from; save its tokenizer again with the version of transformers that saved the model"
        )
    with explained("the model has no tokenizer.json, and its tokenizer cannot be converted"):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True)
        if not tokenizer.is_fast:
            raise SourceError("this model's tokenizer has no fast form (tokenizer.json); choose another model")
        needed = [name for role, name in tokenizer.vocab_files_names.items() if role in ("vocab_file", "merges_file")]
        if not _has(source, needed):
            raise SourceError(
                f"the model has no tokenizer.json, and {type(tokenizer).__name__} needs {' and '.join(needed)}; "
                "download it again"
            )
        tokenizer.backend_tokenizer.save(str(path))


def check_converted(source: Path, path: Path) -> None:
    """Compare the tokenizer at `path` with the vocabulary that it is made of, if that has a library of its own.

    Call it when all tokens are added. Raises SourceError if they give other ids for a text.
    """
    if is_sentencepiece(source):
        from .sentencepiece_model import match_sentencepiece  # noqa: PLC0415

        match_sentencepiece(source, path)


def is_sentencepiece(source: Path) -> bool:
    """Return whether the vocabulary in the folder `source` is a SentencePiece model."""
    return _has(source, ("tokenizer.model",))


def _has(source: Path, names: Sequence[str]) -> bool:
    return all((source / name).is_file() for name in names)
