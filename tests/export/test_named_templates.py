"""Chat templates of every file reach the bundle, or the file is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from infrs_export.bundle.templates import write_templates
from transformers import AutoTokenizer

from infrs.errors import SourceError
from infrs.text.chat.template_files import load_chat_format

USER = {"role": "user", "content": "2+2?"}
FOLDER = "additional_chat_templates"


@pytest.mark.parametrize(
    "inline", [None, "I{{ messages }}", [{"name": "default", "template": "I"}, {"name": "tool_use", "template": "old"}]]
)
def test_templates_of_the_folder_are_written_to_the_configuration(inline: Any, tmp_path: Path) -> None:
    source, bundle = tmp_path / "source", tmp_path / "bundle"
    (source / FOLDER).mkdir(parents=True)
    bundle.mkdir()
    for name, text in (("tool_use", "T{{ tools }}é"), ("rag", "R")):
        (source / FOLDER / f"{name}.jinja").write_text(text, encoding="utf-8")
    config = bundle / "tokenizer_config.json"
    config.write_text(json.dumps({"bos_token": "<s>"} | ({} if inline is None else {"chat_template": inline})))
    (bundle / "chat_template.jinja").write_text("D{{ bos_token }}")
    write_templates(source, bundle)
    chat_format = load_chat_format(bundle)
    assert chat_format.render([USER]) == "D<s>"
    assert chat_format.with_tools.render([USER], variables={"tools": 1}) == "T1é"
    assert {"name": "rag", "template": "R"} in json.loads(config.read_text(encoding="utf-8"))["chat_template"]


@pytest.mark.parametrize("config", ["{ }", '{"chat_template": "I"}', None])
def test_configuration_stays_as_it_is_without_named_templates(config: str | None, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"
    if config is not None:
        path.write_text(config)
    (tmp_path / "chat_template.jinja").write_text("D")
    write_templates(tmp_path, tmp_path)
    assert (path.read_text() if path.exists() else None) == config


INLINE = [{"name": "default", "template": "I"}, {"name": "tool_use", "template": "IT"}]
FILES: dict[str, dict[str, str]] = {
    "none": {},
    "a default": {"chat_template.jinja": "D"},
    "a default and a named one": {"chat_template.jinja": "D", f"{FOLDER}/tool_use.jinja": "T"},
    "a default in the folder": {"chat_template.jinja": "D", f"{FOLDER}/default.jinja": "F"},
    "all in the folder": {f"{FOLDER}/default.jinja": "F", f"{FOLDER}/tool_use.jinja": "T"},
}


@pytest.mark.parametrize("inline", ["I", INLINE])
@pytest.mark.parametrize("name", FILES)
def test_templates_are_chosen_as_transformers_chooses(
    name: str, inline: Any, tiny_copy: Callable[[str], Path], tmp_path: Path
) -> None:
    source, bundle = tiny_copy("source"), tmp_path / "bundle"
    config = json.loads((source / "tokenizer_config.json").read_text())
    config |= {"chat_template": inline, "eos_token": "</s>"}
    bundle.mkdir()
    for folder in (source, bundle):
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (source / FOLDER).mkdir()
    for file, text in FILES[name].items():
        (source / file).write_text(text)
        if "/" not in file:
            (bundle / file).write_text(text)
    write_templates(source, bundle)
    ours, theirs = load_chat_format(bundle), AutoTokenizer.from_pretrained(source)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    assert ours.render([USER]) == theirs.apply_chat_template([USER], tokenize=False)
    assert ours.with_tools.render([USER]) == theirs.apply_chat_template([USER], tools=tools, tokenize=False)


# What is written where, and the words of the refusal. None is a folder.
MALFORMED: dict[str, tuple[str, bytes | None, str]] = {
    "bytes that are no UTF-8": (f"{FOLDER}/rag.jinja", b"\xff\xfe", "rag.jinja is no text in UTF-8"),
    "a folder for a template": (f"{FOLDER}/rag.jinja", None, "rag.jinja is no regular file"),
    "a file for the folder": (FOLDER, b"{{ messages }}", f"{FOLDER} is a file"),
    "no Jinja": (f"{FOLDER}/rag.jinja", b"{% for %}", f"{FOLDER}/rag.jinja cannot be parsed"),
    "an unknown tag": (f"{FOLDER}/tool_use.jinja", b"{% nope %}", "cannot be parsed"),
    "nesting without end": (f"{FOLDER}/rag.jinja", b"{{ " + b"(" * 5000 + b" }}", "cannot be parsed"),
    "a name with a line break": (f"{FOLDER}/a\nb.jinja", b"", r"a\nb.jinja' is no NAME.jinja"),
    "a name that is no text": (f"{FOLDER}/\udcff.jinja", b"", "is no NAME.jinja"),
    "a hidden name": (f"{FOLDER}/.jinja.jinja", b"", "is no NAME.jinja"),
    "a long name": (f"{FOLDER}/{'a' * 200}.jinja", b"", "is no NAME.jinja"),
    "another case": (f"{FOLDER}/rag.JINJA", b"", "is no NAME.jinja"),
    "a default that is no UTF-8": ("chat_template.jinja", b"\xff\xfe", "chat_template.jinja is no text in UTF-8"),
    "a folder for the default": ("chat_template.jinja", None, "chat_template.jinja is no regular file"),
    "a number": ("tokenizer_config.json", b'{"chat_template": 7}', "gives chat_template as 7"),
    "a list of texts": ("tokenizer_config.json", b'{"chat_template": ["a"]}', "gives chat_template as ['a']"),
    "a template without a name": (
        "tokenizer_config.json",
        b'{"chat_template": [{"template": "a"}]}',
        "tokenizer_config.json gives chat_template",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_template_is_named_in_one_line(
    name: str, tiny_copy: Callable[[str], Path], said: Callable[[Path], str]
) -> None:
    file, content, words = MALFORMED[name]
    path = tiny_copy("malformed") / file
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert words in said(path.parents[file.count("/")])


def test_template_of_a_number_is_refused_by_its_type(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": {"default": 1}}')
    with pytest.raises(SourceError, match="neither a text nor a list"):
        write_templates(tmp_path, tmp_path)
