"""Writes the tables of `docs/api.md` from the request models: `python tests/api/api_table.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from infrs.api.common.other_fields import OtherFields
from infrs.http.routes.table import ROUTES

ROOT = Path(__file__).parents[2]
API = ROOT / "docs" / "api.md"
BEGIN, END = "<!-- fields -->", "<!-- /fields -->"

# Where each honoured field is proved; `Model.field` where one route has its own. The tests are checked to exist.
_SEEN = "tests/http/test_chat_route.py::test_what_reaches_the_engine"
_COMPLETIONS = "tests/http/test_completions_route.py"
_EVALUATOR = "tests/http/test_evaluator.py"
_SEEN_BY_COMPLETIONS = f"{_COMPLETIONS}::test_what_reaches_the_engine"
_STREAM = "tests/http/test_stream_equals_whole.py"
_TEXT = "tests/http/test_text_routes.py"
_RESPONSES = "tests/http/test_responses_sdk.py"
_RESPONSES_ROUTE = "tests/http/test_responses_route.py"
_EMBEDDINGS = "tests/http/test_embeddings_route.py"
_FORM = "tests/http/test_constrained_route.py"
_MESSAGES = "tests/http/test_messages_sdk.py"
_MESSAGES_ROUTE = "tests/http/test_messages_route.py"
_ANTHROPIC = "tests/api/test_anthropic_requests.py"
_CONVERSATION = "tests/http/test_prompt_fields.py::test_a_conversation"
_MESSAGE = "tests/http/test_prompt_fields.py::test_a_message"
_RESPONSE = "tests/http/test_prompt_fields.py::test_a_response"
_OTHER = "tests/api/test_other_fields.py"
_HINT = "tests/api/test_requests.py::test_what_asks_for_nothing_is_accepted"
_REFUSED = {
    "OtherFields": f"{_OTHER}::test_what_would_change_the_answer_is_refused",
    "MessagesRequest": f"{_ANTHROPIC}::test_refusals",
    "CountTokensRequest": f"{_MESSAGES_ROUTE}::test_what_counting_refuses",
    "ResponsesRequest": f"{_RESPONSES_ROUTE}::test_refusals",
    "ChatCompletionRequest": "tests/api/test_requests.py::test_what_is_not_honoured_is_refused_by_name",
    "CompletionRequest": "tests/api/test_completion_request.py::test_invalid_values",
}
PROOFS = {
    "model": "tests/http/test_chat_route.py::test_refusals_have_their_status_streamed_or_not",
    "messages": _CONVERSATION,
    "stream": f"{_STREAM}::test_chat",
    "stream_options": "tests/http/test_chat_route.py::test_usage_in_every_chunk",
    "temperature": _SEEN,
    "top_p": _SEEN,
    "top_k": _SEEN,
    "min_p": _SEEN,
    "typical_p": _SEEN,
    "presence_penalty": _SEEN,
    "frequency_penalty": _SEEN,
    "repetition_penalty": _SEEN,
    "logit_bias": _SEEN,
    "seed": _SEEN,
    "n": "tests/http/test_chat_route.py::test_several_answers_streamed_come_one_among_the_other",
    "max_tokens": _SEEN,
    "max_completion_tokens": _SEEN,
    "min_tokens": _SEEN,
    "stop": _SEEN,
    "stop_token_ids": _SEEN,
    "ignore_eos": _SEEN,
    "user": "tests/api/test_requests.py::test_what_asks_for_nothing_is_accepted",
    "logprobs": "tests/http/test_chat_route.py::test_log_probabilities",
    "top_logprobs": "tests/http/test_chat_route.py::test_log_probabilities",
    "reasoning_effort": _CONVERSATION,
    "chat_template_kwargs": _CONVERSATION,
    "add_generation_prompt": _CONVERSATION,
    "continue_final_message": _CONVERSATION,
    "service_tier": "tests/http/test_chat_route.py::test_service_tier_is_told_when_asked_for",
    "metadata": "tests/http/test_sdk.py::test_every_sampling_field",
    **dict.fromkeys(OtherFields.model_fields, f"{_OTHER}::test_what_changes_nothing_is_accepted"),
    "prompt_cache_retention": _HINT,
    "prediction": _HINT,
    "store": _HINT,
    "verbosity": _HINT,
    "ResponsesRequest.prompt_cache_retention": f"{_RESPONSES_ROUTE}::test_what_asks_for_nothing_is_accepted",
    "truncation": f"{_RESPONSES_ROUTE}::test_what_asks_for_nothing_is_accepted",
    "client_metadata": f"{_RESPONSES_ROUTE}::test_what_asks_for_nothing_is_accepted",
    "context_management": f"{_ANTHROPIC}::test_what_asks_for_nothing_is_accepted",
    "safety_identifier": "tests/api/test_requests.py::test_all_that_is_honoured",
    "prompt_cache_key": "tests/api/test_requests.py::test_all_that_is_honoured",
    "ResponsesRequest.model": f"{_RESPONSES_ROUTE}::test_another_model",
    "MessagesRequest.model": f"{_MESSAGES_ROUTE}::test_refusals",
    "CountTokensRequest.model": f"{_MESSAGES_ROUTE}::test_what_counting_refuses",
    "TokenizeRequest.model": f"{_TEXT}::test_refusals",
    "TokenizeChatRequest.model": f"{_TEXT}::test_refusals",
    "DetokenizeRequest.model": f"{_TEXT}::test_refusals",
    "ApplyTemplateRequest.model": f"{_TEXT}::test_refusals",
    "input": f"{_RESPONSES}::test_the_loop_of_calls_and_results",
    "instructions": _RESPONSE,
    "previous_response_id": f"{_RESPONSES}::test_a_second_turn_knows_the_first",
    "max_output_tokens": f"{_RESPONSES}::test_an_answer_that_is_cut",
    "max_tool_calls": f"{_RESPONSES_ROUTE}::test_what_is_told_back",
    "text": f"{_RESPONSES}::test_structured_output",
    "reasoning": _RESPONSE,
    "include": f"{_RESPONSES}::test_log_probabilities",
    "ResponsesRequest.store": f"{_RESPONSES}::test_kept_and_forgotten",
    "ResponsesRequest.stream": f"{_RESPONSES}::test_a_message",
    "ResponsesRequest.stream_options": f"{_RESPONSES_ROUTE}::test_events_are_not_padded",
    "ResponsesRequest.temperature": f"{_RESPONSES_ROUTE}::test_what_reaches_the_engine",
    "ResponsesRequest.top_p": f"{_RESPONSES_ROUTE}::test_what_reaches_the_engine",
    "ResponsesRequest.presence_penalty": f"{_RESPONSES_ROUTE}::test_what_reaches_the_engine",
    "ResponsesRequest.frequency_penalty": f"{_RESPONSES_ROUTE}::test_what_reaches_the_engine",
    "ResponsesRequest.tools": f"{_RESPONSES}::test_calls",
    "ResponsesRequest.tool_choice": f"{_RESPONSES}::test_a_call_that_must_be_made_is_made",
    "ResponsesRequest.parallel_tool_calls": f"{_RESPONSES}::test_calls",
    "ResponsesRequest.top_logprobs": f"{_RESPONSES}::test_log_probabilities",
    "ResponsesRequest.metadata": f"{_RESPONSES_ROUTE}::test_what_is_told_back",
    "ResponsesRequest.user": f"{_RESPONSES_ROUTE}::test_what_is_told_back",
    "ResponsesRequest.safety_identifier": f"{_RESPONSES_ROUTE}::test_what_is_told_back",
    "ResponsesRequest.prompt_cache_key": f"{_RESPONSES_ROUTE}::test_what_is_told_back",
    "ResponsesRequest.service_tier": f"{_RESPONSES_ROUTE}::test_the_tier_that_served",
    "prompt": f"{_COMPLETIONS}::test_each_prompt_by_each_answer",
    "CompletionRequest.logprobs": f"{_EVALUATOR}::test_loglikelihood",
    "CompletionRequest.max_tokens": f"{_COMPLETIONS}::test_echo_of_nothing_more",
    "CompletionRequest.temperature": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.top_p": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.top_k": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.min_p": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.typical_p": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.presence_penalty": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.frequency_penalty": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.repetition_penalty": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.seed": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.min_tokens": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.stop": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.stop_token_ids": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.ignore_eos": _SEEN_BY_COMPLETIONS,
    "CompletionRequest.n": f"{_COMPLETIONS}::test_each_prompt_by_each_answer",
    "CompletionRequest.model": f"{_COMPLETIONS}::test_refusals",
    "CompletionRequest.logit_bias": f"{_EVALUATOR}::test_penalties_and_biases_move_tokens_but_not_scores",
    "CompletionRequest.stream_options": f"{_COMPLETIONS}::test_streamed",
    "CompletionRequest.user": "tests/api/test_completion_request.py::test_all_that_is_honoured",
    "CompletionRequest.stream": f"{_STREAM}::test_completions",
    "echo": f"{_COMPLETIONS}::test_echo",
    "best_of": f"{_COMPLETIONS}::test_best_of",
    "suffix": f"{_COMPLETIONS}::test_suffix",
    "TokenizeRequest.prompt": f"{_TEXT}::test_tokenize_and_back",
    "content": f"{_TEXT}::test_tokenize_and_back",
    "add_special_tokens": f"{_TEXT}::test_begin_tokens",
    "add_special": f"{_TEXT}::test_begin_tokens",
    "return_token_strs": f"{_TEXT}::test_token_texts",
    "response_format": f"{_FORM}::test_an_answer_is_of_the_form_asked_for",
    "guided_json": f"{_FORM}::test_an_answer_is_of_the_form_asked_for",
    "guided_regex": f"{_FORM}::test_an_answer_is_of_the_form_asked_for",
    "guided_choice": f"{_FORM}::test_an_answer_is_of_the_form_asked_for",
    "guided_grammar": f"{_FORM}::test_an_answer_is_of_the_form_asked_for",
    "grammar": f"{_FORM}::test_an_answer_is_of_the_form_asked_for",
    "json_schema": f"{_FORM}::test_an_answer_is_of_the_form_asked_for",
    "CompletionRequest.response_format": f"{_FORM}::test_a_completion_is_of_the_form_asked_for",
    "CompletionRequest.guided_json": f"{_FORM}::test_a_completion_is_of_the_form_asked_for",
    "CompletionRequest.guided_regex": f"{_FORM}::test_a_completion_is_of_the_form_asked_for",
    "CompletionRequest.guided_choice": f"{_FORM}::test_a_completion_is_of_the_form_asked_for",
    "CompletionRequest.guided_grammar": f"{_FORM}::test_a_completion_is_of_the_form_asked_for",
    "CompletionRequest.grammar": f"{_FORM}::test_a_completion_is_of_the_form_asked_for",
    "CompletionRequest.json_schema": f"{_FORM}::test_a_completion_is_of_the_form_asked_for",
    "tools": f"{_FORM}::test_a_call_that_is_required_is_made",
    "tool_choice": f"{_FORM}::test_a_call_that_is_required_is_made",
    "parallel_tool_calls": f"{_FORM}::test_a_call_that_is_required_is_made",
    **{
        f"{model}.{name}": _CONVERSATION
        for model in ("TokenizeChatRequest", "ApplyTemplateRequest")
        for name in ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
    },
    "functions": f"{_FORM}::test_functions_are_tools_of_before",
    "function_call": f"{_FORM}::test_functions_are_tools_of_before",
    "EmbeddingRequest.input": f"{_EMBEDDINGS}::test_every_form_of_input",
    "encoding_format": f"{_EMBEDDINGS}::test_base64_has_the_same_numbers",
    "dimensions": f"{_EMBEDDINGS}::test_fewer_dimensions_have_length_one",
    "EmbeddingRequest.model": f"{_EMBEDDINGS}::test_refusals",
    "EmbeddingRequest.user": f"{_EMBEDDINGS}::test_every_form_of_input",
    "tokens": f"{_TEXT}::test_half_a_character",
    "skip_special_tokens": f"{_TEXT}::test_begin_tokens",
    "system": _MESSAGE,
    "thinking": _MESSAGE,
    "output_config": _MESSAGE,
    "cache_control": _MESSAGE,
    "stop_sequences": f"{_MESSAGES_ROUTE}::test_a_stop_sequence_is_named",
    "MessagesRequest.messages": f"{_ANTHROPIC}::test_thoughts_calls_and_results",
    "MessagesRequest.tools": f"{_MESSAGES}::test_calls",
    "MessagesRequest.tool_choice": f"{_MESSAGES}::test_a_call_that_must_be_made_is_made",
    "MessagesRequest.max_tokens": f"{_MESSAGES_ROUTE}::test_an_answer_that_the_context_cuts_says_so",
    "MessagesRequest.stream": f"{_MESSAGES_ROUTE}::test_streamed",
    "MessagesRequest.temperature": f"{_MESSAGES_ROUTE}::test_what_reaches_the_engine",
    "MessagesRequest.top_p": f"{_MESSAGES_ROUTE}::test_what_reaches_the_engine",
    "MessagesRequest.top_k": f"{_MESSAGES_ROUTE}::test_what_reaches_the_engine",
    "MessagesRequest.metadata": f"{_ANTHROPIC}::test_sampling",
    "MessagesRequest.service_tier": f"{_MESSAGES_ROUTE}::test_the_tier_that_served",
    "CountTokensRequest.messages": _MESSAGE,
    "CountTokensRequest.tools": _MESSAGE,
    "CountTokensRequest.tool_choice": _MESSAGE,
}


_SHARED = (
    "Also taken by `POST /v1/chat/completions`, `/v1/completions` and `/v1/responses`: what clients of vLLM, SGLang,\n"
    "llama.cpp, Ollama and OpenRouter send to every server."
)


def proof(model: type[BaseModel], name: str, refused: bool) -> str:
    """The test that proves a field. Raises KeyError for a field that has none: add it to PROOFS."""
    if refused:
        return _REFUSED.get(model.__name__, f"{_TEXT}::test_refusals")
    return PROOFS.get(f"{model.__name__}.{name}") or PROOFS[name]


def table(model: type[BaseModel]) -> str:
    """Return a model's own fields: what each takes, of which kind it is, and the test that proves it."""
    schema = model.model_json_schema()
    lines = ["| field | takes | | proved by |", "| --- | --- | --- | --- |"]
    for name, field in schema["properties"].items():
        if name in OtherFields.model_fields and model is not OtherFields:
            continue
        refused = bool(field.get("x-refused"))
        told = _values(field["enum"]) if refused else _takes(field, schema.get("$defs", {}))
        path, _, test = proof(model, name, refused).partition("::")
        required = " (required)" if name in schema.get("required", ()) else ""
        is_hint = any(part.get("x-hint") for part in (field, *field.get("anyOf", ())))
        verdict = "neutral values only" if refused else "hint" if is_hint else "honoured"
        lines.append(f"| `{name}`{required} | {told} | {verdict} | [`{test}`](../{path}) |")
    return "\n".join(lines)


def _values(values: list[Any]) -> str:
    return ", ".join(f"`{json.dumps(value)}`" for value in values)


def _takes(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in field:
        target = definitions[field["$ref"].rpartition("/")[2]]
        return "object: " + ", ".join(f"`{name}`" for name in target["properties"])
    alternatives = field.get("anyOf") or field.get("oneOf")
    if alternatives:
        kinds = [_takes(kind, definitions) for kind in alternatives if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field or "const" in field:
        return _values(field.get("enum") or [field["const"]])
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"array of {_takes(field['items'], definitions)}" + _bounds(field, "minItems", "maxItems")
    bounds = _bounds(field, "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxLength", "maxProperties")
    return kind + bounds


def _bounds(field: dict[str, Any], *names: str) -> str:
    words = {
        "minimum": "≥ {}", "maximum": "≤ {}", "exclusiveMinimum": "> {}", "exclusiveMaximum": "< {}",
        "minItems": "≥ {}", "maxItems": "≤ {} of them", "maxLength": "≤ {} characters", "maxProperties": "≤ {} keys",
    }  # fmt: skip
    told = [words[name].format(field[name]) for name in names if name in field]
    return f" ({', '.join(told)})" if told else ""


def render() -> str:
    """The generated part of docs/api.md."""
    routes = ["| method | path | |", "| --- | --- | --- |"]
    routes += [
        f"| {operation.method} | `{re.sub(r'<[^>]+>', '{id}', operation.path)}` | {operation.summary} |"
        for operation in (route.operation for route in ROUTES)
    ]
    parts = ["\n".join(routes)]
    for route in ROUTES:
        for model in route.operation.bodies:
            parts.append(f"### `{route.operation.method} {route.operation.path}`: {model.__name__}\n\n{table(model)}")
    parts.append(f"### Fields of other servers\n\n{_SHARED}\n\n{table(OtherFields)}")
    return "\n\n".join(parts)


def with_tables(text: str) -> str:
    """docs/api.md with its generated part anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{render()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    API.write_text(with_tables(API.read_text(encoding="utf-8")), encoding="utf-8")
