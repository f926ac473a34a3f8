"""Preparation of a conversation: prompt, grammar, engine request and presenter. It does not need a server."""

from __future__ import annotations

from dataclasses import replace

from infrs.api.chat.choice_parser import ChoiceParser
from infrs.api.chat.convert import to_task
from infrs.api.chat.presenter import ChatPresenter
from infrs.api.chat.prompt import encode_prompt, ignored_variables
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.conversation import ChatTask
from infrs.api.common.engine_request import new_id, to_request
from infrs.api.common.ignored import ignored
from infrs.api.common.tools import dropped_tools
from infrs.api.output.prepared import Prepared
from infrs.core import Request, RequestContext
from infrs.engine.sampling.json_schema import check_schema
from infrs.errors import RequestError
from infrs.models.loaded import LoadedModel
from infrs.text.constraint import Constraint
from infrs.text.tools.call_grammar import Tool, honours_schema
from infrs.text.tools.tool_format import calls_constraint, framed, lark_term

_LAST_TOKENS = 16  # of a prompt: enough to see a tag and the space around it


def prepare(model: LoadedModel, body: ChatCompletionRequest, context: RequestContext) -> Prepared:
    """Prepare a chat completion. Raises RequestError."""
    answer_id, task = new_id("chatcmpl"), to_task(body)
    request, parsers = prepare_task(model, task, answer_id, context)
    presenter = ChatPresenter(
        task, model, answer_id, parsers, uses_functions=body.uses_functions, service_tier=body.service_tier
    )
    names = [
        *ignored(body),
        *dropped_tools(body.tools or ()),
        *ignored_variables(model, task.conversation),
        *relaxed_tools(task),
    ]
    return Prepared((request,), presenter, task.options.stream, names)


def prepare_task(
    model: LoadedModel, task: ChatTask, answer_id: str, context: RequestContext
) -> tuple[Request, list[ChoiceParser]]:
    """Return the engine's request, and a parser for each of its answers.

    Raises RequestError for what the model cannot take, and ContextLengthError for a prompt that is too long.
    """
    conversation = task.conversation
    prompt_ids = encode_prompt(model, conversation, model.limits.max_model_len)
    end = model.tokenizer.decode(prompt_ids[-_LAST_TOKENS:], skip_special=False)
    in_reasoning = model.reasoning is not None and model.reasoning.opens_block(end)
    constraint = _constraint(model, task)
    if constraint is not None and model.reasoning is not None and in_reasoning:
        constraint = replace(constraint, after=lark_term(model.tokenizer, model.reasoning.close))
    request = to_request(
        task.options,
        request_id=answer_id,
        prompt_ids=prompt_ids,
        limits=model.limits,
        defaults=model.sampling,
        format_stop=model.chat_format.stop,
        prompt_param=conversation.field_names.messages,
        tenant=context.tenant,
        grammar=None if constraint is None else model.grammars.compile(constraint),
    )
    previous = prompt_ids[-1] if conversation.continue_last else None
    parsers = [ChoiceParser(task, model, previous, in_reasoning=in_reasoning) for _ in range(task.options.num_choices)]
    return request, parsers


def relaxed_tools(task: ChatTask) -> list[str]:
    """Return the tools with schemas that the grammar honours in part, such as `tools[search].parameters`."""
    if not _constrains_calls(task):
        return []
    tools, param = task.conversation.tools, task.conversation.field_names.tools
    # The compiler gets only schemas within the limits: others can take it minutes.
    relaxed = (
        each for each in tools if not each.strict and (_checked(each, param) != each or not honours_schema(each))
    )
    return [f"tools[{tool.name}].parameters" for tool in relaxed]


def _constrains_calls(task: ChatTask) -> bool:
    """Return whether a grammar applies to the calls of an answer."""
    tools = task.conversation.tools
    return bool(tools) and (task.must_call or task.constraint is not None or any(tool.strict for tool in tools))


def _checked(tool: Tool, param: str) -> Tool:
    """Return a tool with a schema within the limits: any object if its own exceeds them.

    Raises RequestError if the tool is strict.
    """
    try:
        check_schema(tool.parameters, param)
    except RequestError:
        if tool.strict:
            raise
        return replace(tool, parameters={"type": "object", "additionalProperties": True})
    return tool


def _constraint(model: LoadedModel, task: ChatTask) -> Constraint | None:
    """Return the constraint of the tools, of the text, or of both as alternatives."""
    tools = task.conversation.tools if _constrains_calls(task) else ()
    param = task.conversation.field_names.tools
    tools = tuple(replace(_checked(tool, param), whitespace=task.whitespace) for tool in tools)
    if task.constraint is not None:
        whole = framed(model.tool_format, task.constraint, tools, model.tokenizer)
        if whole.frame or not tools:
            return whole
    if not tools:
        return None
    required = task.must_call or task.constraint is not None
    calls = calls_constraint(model.tool_format, tools, model.tokenizer, many=task.max_calls is None, required=required)
    return replace(calls, or_else=task.constraint)
