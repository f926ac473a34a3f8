"""Read what an embedding model says of its prompts and of shorter vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infrs.bundle.manifest import MAX_DIMENSIONS, MAX_PROMPT_CHARS, MAX_PROMPTS
from infrs.errors import SourceError

from ..config_check import read_json
from .layout import Lengths, Prompts

PROMPTS_FILE = "config_sentence_transformers.json"


def optional_json(path: Path) -> dict[str, Any]:
    """Return the object of a file; empty if there is none."""
    return read_json(path) if path.is_file() else {}


def read_prompts(directory: Path) -> Prompts:
    """Return the prompts of sentence-transformers. Raises SourceError for prompts that cannot be served."""
    config = optional_json(directory / PROMPTS_FILE)
    given, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(given, dict) or len(given) > MAX_PROMPTS:
        raise SourceError(f"{PROMPTS_FILE}: prompts is not an object of at most {MAX_PROMPTS} texts")
    for name, text in given.items():
        if text is not None and (not isinstance(text, str) or len(text) > MAX_PROMPT_CHARS):
            raise SourceError(
                f"{PROMPTS_FILE}: the prompt {name!r:.60} is not a text of at most {MAX_PROMPT_CHARS} characters"
            )
    by_name = {name: text or "" for name, text in given.items()}
    if default is not None and default not in by_name:
        raise SourceError(
            f"{PROMPTS_FILE}: default_prompt_name is {default!r:.60}, which is not among its prompts "
            f"({', '.join(by_name) or 'none'}); correct it"
        )
    return Prompts("" if default is None else by_name[default], by_name)


def read_lengths(directory: Path) -> Lengths:
    """Return the lengths of vectors that a Matryoshka model declares.

    The fields are `is_matryoshka` and `matryoshka_dimensions` of config.json, as in vLLM, and `truncate_dim` of
    sentence-transformers. Raises SourceError for values that are no lengths.
    """
    config = read_json(directory / "config.json")
    listed, default = config.get("matryoshka_dimensions"), optional_json(directory / PROMPTS_FILE).get("truncate_dim")
    for name, value in (("matryoshka_dimensions", listed), ("truncate_dim", [default])):
        lengths = value if isinstance(value, list) else [value]
        if value is not None and not all(_is_length(item) or item is None for item in lengths):
            raise SourceError(f"{name} is {value!r:.60}, but a vector has 1 to {MAX_DIMENSIONS} numbers; correct it")
    if config.get("is_matryoshka") is False:
        return Lengths(default, ())
    return Lengths(default, tuple(sorted(set(listed))) if listed else None)


def _is_length(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_DIMENSIONS
