"""Templates of current model families render as in transformers."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import TemplateError
from real_templates import FOLDER, REAL_TEMPLATES, TOKENS, chat_template
from tokenizers import Tokenizer as Backend
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from infrs.errors import RequestError

USER = {"role": "user", "content": "What's <2+2>?"}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "add", "arguments": {"left": 2, "right": 2}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add numbers.",
        "parameters": {"type": "object", "properties": {"left": {"type": "integer"}}, "required": ["left"]},
    },
}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "turns": [USER, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Sure?"}],
    "system": [{"role": "system", "content": "Be brief."}, USER],
    "call": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "4", "tool_call_id": "abcdefghi", "name": "add"},
    ],
}


def test_each_file_has_a_row_in_the_table() -> None:
    assert sorted(REAL_TEMPLATES) == sorted(path.stem for path in FOLDER.glob("*.jinja"))
    assert len(REAL_TEMPLATES) >= 40


@pytest.mark.parametrize("name", REAL_TEMPLATES)
def test_real_template_renders_as_transformers(name: str) -> None:
    text = REAL_TEMPLATES[name].text
    reference = PreTrainedTokenizerFast(tokenizer_object=Backend(models.BPE()), chat_template=text, **TOKENS)
    template = chat_template(name)
    for kind, messages in CONVERSATIONS.items():
        tools = [TOOL] if kind == "call" else None
        try:
            expected = reference.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
        except (TemplateError, TypeError):
            with pytest.raises(RequestError, match="the model's chat template refuses these messages"):
                template.render(messages, variables={"tools": tools})
        else:
            assert template.render(messages, variables={"tools": tools}) == expected
