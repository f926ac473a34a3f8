"""Twenty everyday types as the schemas that LangChain, openai-agents, instructor and pydantic-ai send for them.

The requests were recorded from langchain-openai 1.7, openai-agents 0.24, instructor 1.17 and pydantic-ai 2.38.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher

from infrs.engine.sampling.json_schema import check_schema
from infrs.text.schemas.guided import guided
from infrs.text.tools.call_grammar import Tool, arguments_schema

RECORDED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("client_schemas.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", RECORDED)
def test_the_schema_of_a_client_compiles_with_all_its_properties(name: str) -> None:
    recorded = RECORDED[name]
    schema = recorded["schema"]
    check_schema(schema, "x")
    if recorded["kind"] == "tool":
        prepared = arguments_schema(Tool("f", "", schema, recorded["strict"]))
    else:
        prepared = guided(schema)
    assert not LLMatcher.validate_grammar(f"start: %json {json.dumps(prepared)}")
    assert True not in prepared.get("properties", {}).values()  # none was given up
    assert prepared.get("properties", {}).keys() == schema.get("properties", {}).keys()
