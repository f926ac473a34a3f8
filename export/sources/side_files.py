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
    """Return the files next to the weights, sorted.

    Raises SourceError if one is a folder or too large, or if there are too many.
    """
    folder = directory / NAMED_TEMPLATES
    if folder.exists() and not folder.is_dir():
        raise SourceError(f"{NAMED_TEMPLATES} is a file, but it is the folder of named chat templates; remove it")
    templates = sorted(folder.glob("*.jinja"))
    if len(templates) > _MAX_TEMPLATES:
        raise SourceError(f"{NAMED_TEMPLATES} holds {len(templates)} templates; infrs takes up to {_MAX_TEMPLATES}")
    found = [path for path in (*sorted(directory.iterdir()), *templates) if path.suffix in _SUFFIXES]
    for path in found:
        if not path.is_file():
            raise SourceError(f"{path.name} is no regular file; remove it, or download the model again")
        limit = _LIMITS.get(path.name, _MIB if path.suffix == ".jinja" else FILE_BYTES)
        if path.stat().st_size > limit:
            raise SourceError(f"{path.name} is larger than {limit} bytes, which no model needs; remove or correct it")
    return found
