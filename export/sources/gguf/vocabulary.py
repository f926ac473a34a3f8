"""Check the tokenizer's part of the metadata of a GGUF file."""

from __future__ import annotations

from typing import Any

from gguf import Keys

from infrs.errors import SourceError

from ..side_files import LONGEST_TOKEN

_TEXTS = (Keys.Tokenizer.MODEL, Keys.Tokenizer.PRE, Keys.Tokenizer.CHAT_TEMPLATE)
_LISTS: dict[str, type] = {
    Keys.Tokenizer.LIST: str,
    Keys.Tokenizer.TOKEN_TYPE: int,
    Keys.Tokenizer.SCORES: float,
    Keys.Tokenizer.MERGES: str,
}
_PARALLEL = (Keys.Tokenizer.TOKEN_TYPE, Keys.Tokenizer.SCORES)  # one item for each token
_IDS = (Keys.Tokenizer.BOS_ID, Keys.Tokenizer.EOS_ID, Keys.Tokenizer.EOT_ID)
_OPTIONAL_IDS = (Keys.Tokenizer.PAD_ID, Keys.Tokenizer.UNK_ID)  # often untrained, without a row in the model
_NEEDS = {"gpt2": (Keys.Tokenizer.PRE, Keys.Tokenizer.MERGES), "llama": (Keys.Tokenizer.SCORES,)}


def checked_vocabulary(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return `metadata` without ids of padding and unknown tokens that are beyond the vocabulary.

    Raises SourceError, with the key, for values that are missing, of another type, of another length or out of range.
    """
    kind = str(metadata.get(Keys.Tokenizer.MODEL))
    for key in (Keys.Tokenizer.MODEL, Keys.Tokenizer.LIST, Keys.Tokenizer.TOKEN_TYPE, *_NEEDS.get(kind, ())):
        if key not in metadata:
            raise SourceError(f"the GGUF file has no {key}; convert the model again with its tokenizer")
    for key in (*_TEXTS, *_LISTS):
        if key in metadata and not _has_type(key, metadata[key]):
            raise SourceError(
                f"the GGUF file gives {key} as {metadata[key]!r:.60}, which is of another type; convert the model again"
            )
    count = len(metadata[Keys.Tokenizer.LIST])
    if (longest := max(map(len, metadata[Keys.Tokenizer.LIST]), default=0)) > LONGEST_TOKEN:
        raise SourceError(
            f"the GGUF file has a token of {longest} characters, but {LONGEST_TOKEN} is the maximum; download it again"
        )
    for key in _PARALLEL:
        if key in metadata and len(metadata[key]) != count:
            raise SourceError(
                f"the GGUF file has {count} tokens and {len(metadata[key])} items of {key}; convert the model again"
            )
    for key in _IDS:
        if key in metadata and not _is_id(metadata[key], count):
            raise SourceError(
                f"the GGUF file gives {key} as {metadata[key]!r:.40} and has {count} tokens; convert the model again"
            )
    omitted = {key for key in _OPTIONAL_IDS if key in metadata and not _is_id(metadata[key], count)}
    return {key: value for key, value in metadata.items() if key not in omitted}


def _has_type(key: str, value: object) -> bool:
    if key in _TEXTS:
        return isinstance(value, str)
    return isinstance(value, list) and all(type(item) is _LISTS[key] for item in value)


def _is_id(value: object, count: int) -> bool:
    return type(value) is int and 0 <= value < count
