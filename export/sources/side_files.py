"""The files next to the weights: configuration, tokenizer and chat templates, each up to a maximum size."""

from __future__ import annotations

from pathlib import Path

from infrs.errors import SourceError

NAMED_TEMPLATES = "additional_chat_templates"  # a folder of NAME.jinja
FILE_BYTES = 64 << 20  # of a vocabulary, the largest kind
LONGEST_TOKEN = 4096  # characters; those of real vocabularies have up to a few hundred
_SUFFIXES = {".json", ".jinja", ".model", ".txt"}
_MAX_TEMPLATES = 64
_MIB = 1 << 20
_LIMITS = {  # in bytes, for files that hold no vocabulary
    **dict.fromkeys(("config.json", "generation_config.json", "chat_template.json"), _MIB),
    **dict.fromkeys(("special_tokens_map.json", "preprocessor_config.json", "processor_config.json"), _MIB),
}


def side_files(directory: Path) -> list[Path]:
    """Return the files next to the weights, sorted. Raises SourceError if one is too large, or there are too many."""
    templates = sorted((directory / NAMED_TEMPLATES).glob("*.jinja"))
    if len(templates) > _MAX_TEMPLATES:
        raise SourceError(f"{NAMED_TEMPLATES} holds {len(templates)} templates; infrs takes up to {_MAX_TEMPLATES}")
    found = [path for path in (*sorted(directory.iterdir()), *templates) if path.suffix in _SUFFIXES and path.is_file()]
    for path in found:
        limit = _LIMITS.get(path.name, _MIB if path.suffix == ".jinja" else FILE_BYTES)
        if path.stat().st_size > limit:
            raise SourceError(f"{path.name} is larger than {limit} bytes, which no model needs; remove or correct it")
    return found
