"""Chat templates of current model families, as their makers publish them.

tests/templates/templates.tsv has a row for each file: name, family, the licence of the model, the package and path that
the file comes from, and the fields of `infrs.text.chat.form.Form` that differ from the defaults. `TOKENS` are special
tokens for templates that write them. `chat_template` compiles a template once for all tests of a process.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infrs.text.chat.template import ChatTemplate

FOLDER = Path(__file__).parent / "templates"
TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}


@dataclass(frozen=True)
class RealTemplate:
    name: str
    family: str
    licence: str
    source: str
    form: str

    @property
    def text(self) -> str:
        # A model's own line ends: Python would change them.
        return (FOLDER / f"{self.name}.jinja").read_bytes().decode()


def read_table() -> dict[str, RealTemplate]:
    with (FOLDER / "templates.tsv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: RealTemplate(**row) for row in csv.DictReader(file, delimiter="\t")}


REAL_TEMPLATES = read_table()


@cache
def chat_template(name: str) -> ChatTemplate:
    return ChatTemplate(REAL_TEMPLATES[name].text, TOKENS)
