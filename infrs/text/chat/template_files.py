"""Load a bundle's chat templates, from the files that transformers reads.

After `_from_pretrained` and `get_chat_template` in transformers' tokenization_utils_base.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from infrs.errors import BundleError
from infrs.text.chat.template import ChatFormat, ChatTemplate, SimpleFormat

CONFIG_FILE = "tokenizer_config.json"
TOKENS_FILE = "special_tokens_map.json"
TEMPLATE_FILE = "chat_template.jinja"
PROCESSOR_FILE = "chat_template.json"  # of older models with images
NAMED_FOLDER = "additional_chat_templates"
_DEFAULT, _TOOL_USE = "default", "tool_use"
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def load_chat_format(bundle: Path, chat_format: Literal["auto", "simple"] = "auto") -> ChatFormat:
    """Return the format of a bundle: its chat template, or the plain format if there is none or it is "simple".

    A template named `tool_use` renders conversations with tools. Raises BundleError if the templates or the
    tokenizer's configuration cannot be read.
    """
    if chat_format == "simple":
        return SimpleFormat()
    try:
        config = _read_json(bundle / CONFIG_FILE)
        templates = _templates(bundle, config)
        tokens = _special_tokens(config, _read_json(bundle / TOKENS_FILE))
        if templates.get(_DEFAULT) is None:
            return SimpleFormat()
        named = templates.get(_TOOL_USE)
        tool_use = None if named is None else ChatTemplate(named, tokens)
        return ChatTemplate(templates[_DEFAULT], tokens, tool_use)
    except Exception as error:  # errors of Jinja, and of Python's compiler for its code
        raise BundleError(f"{bundle}: the chat template cannot be read ({error}); use chat_format simple") from error


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; empty if there is no file."""
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(value, dict):
        raise TypeError(f"{path.name} holds no object")
    return value


def _templates(bundle: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return templates by name. Files of their own take precedence over the configuration."""
    inline = config.get("chat_template") or _read_json(bundle / PROCESSOR_FILE).get("chat_template")
    if isinstance(inline, list):
        inline = {entry["name"]: entry["template"] for entry in inline}
    templates = dict(inline) if isinstance(inline, dict) else {} if inline is None else {_DEFAULT: inline}
    files = {path.stem: path for path in sorted((bundle / NAMED_FOLDER).glob("*.jinja"))}
    files |= {_DEFAULT: bundle / TEMPLATE_FILE} if (bundle / TEMPLATE_FILE).exists() else {}
    return templates | {name: path.read_text(encoding="utf-8") for name, path in files.items()}


def _special_tokens(config: Mapping[str, Any], token_map: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Return the special tokens for templates. In the files each is a string or an object with `content`.

    transformers reads special_tokens_map.json only for older models, without `added_tokens_decoder`.
    """
    fields = {**config} if "added_tokens_decoder" in config else {**config, **token_map}
    extra = fields.get("extra_special_tokens")
    named = {name: fields.get(name) for name in _SPECIAL_TOKENS} | (extra if isinstance(extra, dict) else {})
    tokens: dict[str, str | list[str]] = {name: _text(token) for name, token in named.items() if token}
    more = fields.get("additional_special_tokens")
    return tokens | ({"additional_special_tokens": [_text(token) for token in more]} if more else {})


def _text(token: str | Mapping[str, str]) -> str:
    return token if isinstance(token, str) else token["content"]
