"""Chat templates of a model's folder: one in a file, named ones in a folder, or all in tokenizer_config.json.

transformers lets files replace what tokenizer_config.json gives (tokenization_utils_base.py, `_from_pretrained`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from infrs.errors import SourceError
from infrs.text.chat.sandbox.environment import template_environment

from ..sources.config_check import first_line, read_json
from ..sources.side_files import FILE_BYTES, NAMED_TEMPLATES

TEMPLATE = "chat_template.jinja"
_DEFAULT = "default"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\.jinja")


def write_templates(source: Path, directory: Path) -> None:
    """Write the templates in the folder `source` to the bundle `directory`, which has no folder for named ones.

    Named templates go to tokenizer_config.json. Raises SourceError, with the file, for a template that cannot be read,
    and for a named one that Jinja cannot parse.
    """
    config_path = directory / "tokenizer_config.json"
    config = read_json(config_path, limit=FILE_BYTES) if config_path.is_file() else {}
    inline = _inline(config.get("chat_template"))
    named = _named(source / NAMED_TEMPLATES)
    files = {_DEFAULT: _text(source / TEMPLATE)} if (source / TEMPLATE).is_file() else {}
    if _DEFAULT in named:
        (directory / TEMPLATE).write_text(named[_DEFAULT], encoding="utf-8")
    files |= named
    kept = {} if _DEFAULT in files else inline
    if named or (files and inline.keys() - {_DEFAULT}):
        templates = kept | files
        config["chat_template"] = [{"name": name, "template": template} for name, template in templates.items()]
        config_path.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def template_text(directory: Path, config: dict[str, Any]) -> str:
    """Return the text of the bundle's templates, for a search; `config` is its tokenizer_config.json."""
    path = directory / TEMPLATE
    return _text(path) if path.is_file() else json.dumps(config.get("chat_template") or "", ensure_ascii=False)


def _inline(value: object) -> dict[str, str]:
    """Return the templates of tokenizer_config.json by name: a text is the default one, a list has several."""
    entries = [{"name": _DEFAULT, "template": value}] if isinstance(value, str) else value or []
    if isinstance(value, dict):
        entries = [{"name": name, "template": template} for name, template in value.items()]
    valid = isinstance(entries, list) and all(
        isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("name", "template"))
        for entry in entries
    )
    if not valid or not isinstance(entries, list):
        raise SourceError(
            f"tokenizer_config.json gives chat_template as {value!r:.60}, which is neither a text nor a list of "
            "objects with name and template; correct it"
        )
    return {entry["name"]: entry["template"] for entry in entries}


def _named(folder: Path) -> dict[str, str]:
    """Return the templates in a folder by name, parsed as the server parses them."""
    named = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() != ".jinja":
            continue
        name = f"{folder.name}/{path.name}"
        if not _FILE_NAME.fullmatch(path.name):
            raise SourceError(f"{name!a:.200} is no NAME.jinja with letters, digits, '-', '_' and '.'; rename it")
        named[path.stem] = _text(path)
        try:
            template_environment().from_string(named[path.stem])
        except Exception as error:  # of Jinja, and of Python's compiler for its code
            raise SourceError(f"{name} cannot be parsed ({first_line(error):.200}); correct or remove it") from error
    return named


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{path.name} is no text in UTF-8 ({first_line(error):.200}); correct or remove it"
        ) from error
