"""Choose the format of a model's tool calls."""

from __future__ import annotations

import json
from collections.abc import Sequence

from infrs.text.constraint import Constraint
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.call_grammar import Tool
from infrs.text.tools.formats import gemma, generic, granite, hermes, llama3, mistral, phi
from infrs.text.tools.tool_format import ToolFormat

# In the order of detection: formats with specific markers first.
FORMATS = {
    "mistral": mistral.FORMAT,
    "hermes": hermes.FORMAT,
    "granite": granite.FORMAT,
    "phi": phi.FORMAT,
    "llama3": llama3.FORMAT,
    "gemma": gemma.FORMAT,
    "generic": generic.FORMAT,
}


def choose_format(template: str, name: str = "auto") -> ToolFormat:
    """Return the format of a chat template, or the named format. Raises KeyError for an unknown name."""
    if name != "auto":
        return FORMATS[name]
    return next(tool_format for tool_format in FORMATS.values() if tool_format.detect(template))


def calls_constraint(
    tool_format: ToolFormat, tools: Sequence[Tool], tokenizer: Tokenizer, *, many: bool, required: bool
) -> Constraint:
    """Return the constraint of an answer with one call, or several if `many`; unless `required`, also plain text."""

    def literal(text: str) -> str:
        token_id = tokenizer.token_id(text)
        return f"<[{token_id}]>" if token_id in tokenizer.special_ids else json.dumps(text, ensure_ascii=False)

    return Constraint("calls", tool_format.grammar(tools, literal, many=many, required=required), "tools")
