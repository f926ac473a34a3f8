"""The fields of other servers: accepted where they change nothing, else refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from infrs.api.anthropic.request import MessagesRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.fields import Body, Neutral, parse_body
from infrs.api.common.other_fields import OtherFields
from infrs.api.completions.request import CompletionRequest
from infrs.api.embeddings.request import EmbeddingRequest
from infrs.api.responses.request import ResponsesRequest
from infrs.errors import RequestError

BODIES: dict[type[Body], dict[str, Any]] = {
    ChatCompletionRequest: {"model": "m", "messages": [{"role": "user", "content": "a"}]},
    CompletionRequest: {"model": "m", "prompt": "a"},
    ResponsesRequest: {"model": "m", "input": "a"},
    MessagesRequest: {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 9},
    EmbeddingRequest: {"model": "m", "input": "a"},
}
SCHEMA = OtherFields.model_json_schema()["properties"]
NEUTRAL = {name: field["enum"] for name, field in SCHEMA.items() if "enum" in field}
FLAG, ANY, OPAQUE = [True, False, None], [{"a": [1]}, ["x"], "x", 0, {}, None], ["x-1", "", None]
HINTS: dict[str, list[Any]] = {
    **dict.fromkeys(
        ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "cache_salt", "request_id", "rid",
         "session_id", "route", "user_id"),
        OPAQUE,
    ),
    **dict.fromkeys(
        ("store", "include_reasoning", "no_stop_trim", "separate_reasoning", "stream_reasoning", "return_hidden_states",
         "return_routed_experts", "return_cached_tokens_details", "cache_prompt", "timings_per_token",
         "return_progress", "drop_params", "backend_sampling", "tool_stream"),
        FLAG,
    ),
    **dict.fromkeys(
        ("client_metadata", "prediction", "prompt_cache_options", "models", "provider", "trace", "usage",
         "additional_drop_params", "allowed_openai_params", "litellm_metadata", "mirostat_tau", "mirostat_eta",
         "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers", "xtc_threshold",
         "dynatemp_exponent", "draft_model"),
        ANY,
    ),
    "metadata": [{"a": "b"}, {}, None],
    "context_management": [{"edits": []}, None],
    "service_tier": ["auto", "flex", "standard_only", None],
    "verbosity": ["low", "medium", "high", None],
    "cache_control": [{"type": "ephemeral", "ttl": "1h", "scope": "global"}, {}, None],
    "priority": [-1, 0, 3, 2.0, None],
    "id_slot": [-1, 0, 3.0, None],
    "keep_alive": ["5m", -1, 0, None],
    "ttl": [300, 0.5, None],
    "sse_ping_interval": [-1, 30, None],
}  # fmt: skip


def refused_by(kind: type[Body]) -> list[str]:
    """Return the fields that a body does not honour: chats and completions honour other servers' grammars."""
    fields = kind.model_fields
    return [name for name in sorted(NEUTRAL) if any(isinstance(part, Neutral) for part in fields[name].metadata)]


def test_each_field_is_one_of_the_two() -> None:
    assert NEUTRAL.keys().isdisjoint(HINTS)
    assert NEUTRAL.keys() | HINTS.keys() == OtherFields.model_fields.keys()


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("name", sorted(NEUTRAL | HINTS))
def test_a_value_without_effect_is_accepted(kind: type[Body], name: str) -> None:
    for value in (NEUTRAL | HINTS)[name]:
        parse_body(kind, BODIES[kind] | {name: value})


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in BODIES for name in refused_by(kind)])
@pytest.mark.parametrize("value", [7, "x", ["x"], {"x": 1}])
def test_a_value_that_would_change_the_answer_is_refused(kind: type[Body], name: str, value: object) -> None:
    with pytest.raises(RequestError) as refused:
        parse_body(kind, BODIES[kind] | {name: value})
    assert (refused.value.param, refused.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize("value", [0.0, 0])
def test_a_number_is_the_same_however_it_is_written(value: float) -> None:
    parse_body(ChatCompletionRequest, BODIES[ChatCompletionRequest] | {"length_penalty": 1 + value})


def test_true_is_no_number() -> None:
    with pytest.raises(RequestError, match="length_penalty: true is not supported by this server; remove it"):
        parse_body(ChatCompletionRequest, BODIES[ChatCompletionRequest] | {"length_penalty": True})
