"""Chat templates by name reach the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from infrs_export.bundle.companions import add_named_templates

from infrs.text.chat.load import load_chat_format

USER = {"role": "user", "content": "2+2?"}


@pytest.mark.parametrize(
    "inline", [None, "I{{ messages }}", [{"name": "default", "template": "I"}, {"name": "tool_use", "template": "old"}]]
)
def test_templates_of_the_folder_are_written_to_the_configuration(inline: Any, tmp_path: Path) -> None:
    source, bundle = tmp_path / "source", tmp_path / "bundle"
    (source / "additional_chat_templates").mkdir(parents=True)
    bundle.mkdir()
    for name, text in (("tool_use", "T{{ tools }}é"), ("rag", "R")):
        (source / "additional_chat_templates" / f"{name}.jinja").write_text(text, encoding="utf-8")
    config = bundle / "tokenizer_config.json"
    config.write_text(json.dumps({"bos_token": "<s>"} | ({} if inline is None else {"chat_template": inline})))
    (bundle / "chat_template.jinja").write_text("D{{ bos_token }}")
    add_named_templates(source, config)
    chat_format = load_chat_format(bundle)
    assert chat_format.render([USER]) == "D<s>"
    assert chat_format.with_tools.render([USER], variables={"tools": 1}) == "T1é"
    assert {"name": "rag", "template": "R"} in json.loads(config.read_text(encoding="utf-8"))["chat_template"]


def test_configuration_stays_as_it_is_without_a_folder(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    config.write_text("{ }")
    add_named_templates(tmp_path, config)
    assert config.read_text() == "{ }"
