"""Calls as the chat templates of current models write them: chosen, read and forced in the same notation."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import get_args

import pytest
from real_templates import chat_template
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from infrs.config.settings import ToolFormatName
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.errors import EngineError
from infrs.text.chat.template import ChatTemplate
from infrs.text.constraint import Constraint
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.events import Arguments, CallStart, Content
from infrs.text.tools.formats import FORMATS, choose_format
from infrs.text.tools.probe import PROBE_ARGUMENTS, PROBE_TOOL, rendered_calls
from infrs.text.tools.tool_format import CallReader, ToolFormat, calls_constraint

# The format of each template that renders calls.
RENDERED = {
    "mistral": "mistral-7b-tools mistral-nemo mistral-small-3.2 ministral-3-reasoning devstral-small "
    "magistral-small-2507 magistral-small-2509",
    "hermes": "qwen-2.5 qwq qwen-3 qwen-3-instruct-2507 qwen-3-vl granite-4.0 granite-4.1 hermes-3-tool-use mimo-vl "
    "bielik-3 exaone-4 reka-edge falcon-3",
    "deepseek_v3": "deepseek-r1-distill-llama deepseek-r1-distill-qwen deepseek-v3",
    "deepseek_v3.1": "deepseek-v3.1",
    "command": "command-r7b-tool-use command-a-tool-use cohere-2-moe",
    "nemotron": "nemotron-nano-2",
    "tool_calls": "hunyuan-a13b minimax-m1 apriel-1.5 apriel-1.6 jamba",
    "internlm": "internlm-2",
    "gigachat3": "gigachat-3",
    "command_r": "command-r-plus-tool-use",
    "apertus": "apertus",
    "kimi": "kimi-k2",
    "solar": "solar-open",
    "functionary": "functionary-3.1",
    "functionary_3.2": "functionary-3.2",
    "glm4": "glm-4-0414",
    "harmony": "gpt-oss",
    "llama3": "llama-3.1 llama-3.2 phi-4-mini xlam-qwen",
}
# The format of templates that render no calls, by texts in the template or its prompt.
OTHERS = {
    "kimi": "kimi-k2-thinking kimi-k2-instruct",
    "granite": "granite-3.3",
    "hermes": "falcon-h1",
    "firefunction": "firefunction-2",
    "llama3": "llama-3 llama-4",
    "gemma": "gemma-2 gemma-3 gemma-3n",
    "generic": "phi-3 phi-3.5 phi-4 mistral-small-3 aya-expanse rwkv-world qwen-2.5-vl smolvlm "
    "olmo-2 ernie-4.5 cohere-2",
}
# Around a call in the rendered text, but not in an answer: empty reasoning before it, the end of the turn after it.
AROUND = ("<|START_THINKING|><|END_THINKING|>", "<SPECIAL_12>", "<|eom_id|>", "<\uff5cend\u2581of\u2581sentence\uff5c>")
AROUND += ("<\uff5cAssistant\uff5c>", "<|call|>")


def pairs(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, template) for name, templates in table.items() for template in templates.split()]


@cache
def chosen_format(template_name: str) -> ToolFormat:
    return choose_format(chat_template(template_name))


@cache
def answers(name: str) -> list[str]:
    """Return the answers with one and two calls that a template renders."""
    calls = rendered_calls(chat_template(name))
    texts = [calls.one, calls.two]
    for around in AROUND:
        texts = [text.replace(around, "") for text in texts]
    return [text.rstrip() if text.startswith(" to=") else text.strip() for text in texts if text]


def read(parser: CallReader, pieces: list[str]) -> list[tuple[str, object]]:
    """Return calls and pieces of content."""
    found: list[list[str]] = []
    for event in [*(event for piece in pieces for event in parser.feed(piece)), *parser.flush()]:
        match event:
            case CallStart(name):
                found.append([name, ""])
            case Arguments(text):
                found[-1][1] += text
            case Content(text) if found and not found[-1][0]:
                found[-1][1] += text
            case Content(text):
                found.append(["", text])
    return [(name, json.loads(text) if name else text) for name, text in found]


@pytest.mark.parametrize(("name", "template_name"), pairs(RENDERED) + pairs(OTHERS))
def test_format_is_that_of_the_template(name: str, template_name: str) -> None:
    chosen = chosen_format(template_name)
    assert chosen.syntax.markers == FORMATS[name].syntax.markers
    assert bool(answers(template_name)) == ((name, template_name) in pairs(RENDERED) or template_name == "llama-4")


@pytest.mark.parametrize(("name", "template_name"), pairs(RENDERED))
def test_rendered_calls_are_read_back(name: str, template_name: str) -> None:
    chosen = chosen_format(template_name)
    for num_calls, text in enumerate(answers(template_name), 1):
        for size in (1, 3, len(text)):
            pieces = [text[start : start + size] for start in range(0, len(text), size)]
            assert read(chosen.parser({PROBE_TOOL.name}), pieces) == [(PROBE_TOOL.name, PROBE_ARGUMENTS)] * num_calls
        assert read(chosen.parser({"other"}), [text]) == [("", text)]


@pytest.fixture(scope="module", params=[False, True], ids=["text", "control tokens"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Return a tokenizer of bytes; its markers are text, or control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={token: index for index, token in enumerate(["<eos>", *alphabet])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    markers = {marker for each in FORMATS.values() for marker in each.syntax.markers if marker[0] in "<["}
    single = sorted(marker for marker in markers if "><" not in marker and "\n" not in marker)
    special = ["<eos>", *single] if request.param else ["<eos>"]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return Tokenizer(backend.to_str())


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, [0])


@pytest.mark.parametrize(("name", "template_name"), pairs(RENDERED))
@pytest.mark.parametrize("required", [False, True])
def test_grammar_takes_rendered_calls(
    name: str, template_name: str, required: bool, tokenizer: Tokenizer, compiler: GrammarCompiler
) -> None:
    chosen = chosen_format(template_name)
    for num_calls, text in enumerate(answers(template_name), 1):
        if template_name == "deepseek-r1-distill-llama" and num_calls == 1:
            continue  # its template forgets the end marker of a single call
        for many in {True, num_calls > 1}:
            grammar = calls_constraint(chosen, [PROBE_TOOL], tokenizer, many=many, required=required)
            assert follows(compiler, grammar, tokenizer.encode(text, special=False)), text
        wrong = text.replace('"probe_value"', "1")
        assert not follows(compiler, grammar, tokenizer.encode(wrong, special=False)) or (
            not required and not read(chosen.parser({PROBE_TOOL.name}), [wrong])[0][0]
        )


def test_text_comes_before_calls_of_glm_4_if_the_marker_is_a_control_token(
    tokenizer: Tokenizer, compiler: GrammarCompiler
) -> None:
    marker = "<|assistant|>"
    grammar = calls_constraint(FORMATS["glm4"], [PROBE_TOOL], tokenizer, many=True, required=False)
    call = f"{PROBE_TOOL.name}\n{json.dumps(PROBE_ARGUMENTS)}"
    for text in ("\nI look.", "\nprobe_tool is\n"):
        assert follows(compiler, grammar, tokenizer.encode(text, special=False))
        ids = tokenizer.encode(text + marker + call, special=False)
        assert follows(compiler, grammar, ids) == (tokenizer.token_id(marker) is not None)
    assert not follows(compiler, grammar, tokenizer.encode(f"{PROBE_TOOL.name}\nIt is.", special=False))
    grammar = calls_constraint(FORMATS["glm4"], [PROBE_TOOL], tokenizer, many=True, required=True)
    assert not follows(compiler, grammar, tokenizer.encode("\nI look.", special=False))


def follows(compiler: GrammarCompiler, constraint: Constraint, ids: list[int]) -> bool:
    """Return whether ids are a whole answer."""
    state = compiler.compile(constraint).start()
    try:
        for token_id in ids:
            state.accept(token_id)
    except EngineError:
        return False
    return bool(state.allowed()[0] & 1)


# Answers with two calls in notations that no format knows, with @n for names and @a for arguments.
UNKNOWN = [
    '<call>{"name": "@n", "arguments": @a}</call>\n<call>{"name": "@n", "arguments": @a}</call>',
    '<|calls|>[{"name": "@n", "parameters": @a}, {"name": "@n", "parameters": @a}]<|/calls|>',
    "<|call|>@n<|args|>@a<|call|>@n<|args|>@a",
    "<calls><call>@n: @a</call>\n<call>@n: @a</call></calls>",
    "[CALL] @n\n@a[CALL] @n\n@a",
]


@pytest.mark.parametrize("text", UNKNOWN)
def test_unknown_markers_make_a_format(text: str, tokenizer: Tokenizer, compiler: GrammarCompiler) -> None:
    start, call, between, _, end = re.split("(@n.*?@a)", text, maxsplit=2, flags=re.DOTALL)
    written = call.replace("@n", "{{ c.function.name }}").replace("@a", "{{ c.function.arguments | tojson }}")
    calls = f"{start}{{% for c in m.tool_calls %}}{written}{{{{ {between!r} if not loop.last }}}}{{% endfor %}}{end}"
    message = f"{{% if m.tool_calls %}}{calls}{{% else %}}{{{{ m.content }}}}{{% endif %}}"
    chosen = choose_format(f"{{% for m in messages %}}{message}{{% endfor %}}")
    answer = text.replace("@n", PROBE_TOOL.name).replace("@a", json.dumps(PROBE_ARGUMENTS))
    assert read(chosen.parser({PROBE_TOOL.name}), list(f"So: {answer}")) == [
        ("", "So:"),
        *[(PROBE_TOOL.name, PROBE_ARGUMENTS)] * 2,
    ]
    for required in (False, True):
        grammar = calls_constraint(chosen, [PROBE_TOOL], tokenizer, many=True, required=required)
        assert follows(compiler, grammar, tokenizer.encode(answer, special=False))


def test_real_template_with_an_unknown_marker_and_one_call_makes_a_format(
    tokenizer: Tokenizer, compiler: GrammarCompiler
) -> None:
    chosen = chosen_format("gigachat-3.1")
    assert chosen not in FORMATS.values()
    (text,) = answers("gigachat-3.1")
    for num_calls in (1, 2):
        answer = text * num_calls
        assert read(chosen.parser({PROBE_TOOL.name}), [*answer]) == [(PROBE_TOOL.name, PROBE_ARGUMENTS)] * num_calls
        grammar = calls_constraint(chosen, [PROBE_TOOL], tokenizer, many=num_calls > 1, required=True)
        assert follows(compiler, grammar, tokenizer.encode(answer, special=False))


# Small templates that write calls as those of their families do.
OWN = {
    "hyperclovax": (
        "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.tool_calls %} -> tool/function_call\n["
        '{% for c in m.tool_calls %}{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
        "{{ ', ' if not loop.last }}{% endfor %}]{% else %}\n{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    ),
    "gigachat3.5": (
        "{% for m in messages %}{{ m.role }}<|role_sep|>\n{{ m.content or '' }}{% if m.tool_calls %}<@tool_calls>\n"
        '{% for c in m.tool_calls %}<@invoke name="{{ c.function.name }}">\n'
        '{% for k, v in c.function.arguments.items() %}<@parameter name="{{ k }}" string="{{ \'true\' if v is string '
        "else 'false' }}\">{{ v if v is string else v | tojson }}</@parameter>\n{% endfor %}</@invoke>\n"
        "{% endfor %}</@tool_calls>{% endif %}<|message_sep|>\n\n{% endfor %}"
        "{% if add_generation_prompt %}assistant<|role_sep|>\n{% endif %}"
    ).replace("@", "\uff5cGCML\uff5c"),
}


@pytest.mark.parametrize("name", OWN)
def test_calls_of_a_small_template_are_chosen_read_and_forced(
    name: str, tokenizer: Tokenizer, compiler: GrammarCompiler
) -> None:
    template = ChatTemplate(OWN[name], {})
    chosen, calls = choose_format(template), rendered_calls(template)
    assert chosen.syntax.markers == FORMATS[name].syntax.markers
    schemas = {PROBE_TOOL.name: PROBE_TOOL.parameters}
    for num_calls, rendered in enumerate((calls.one, calls.two), 1):
        text = re.sub(r"(<\|im_end\|>|<\|message_sep\|>)\s*$", "", rendered)
        for pieces in ([text], [*text]):
            found = read(chosen.parser({PROBE_TOOL.name}, schemas=schemas), pieces)
            assert found == [(PROBE_TOOL.name, PROBE_ARGUMENTS)] * num_calls
        for required in (False, True):
            grammar = calls_constraint(chosen, [PROBE_TOOL], tokenizer, many=num_calls > 1, required=required)
            assert follows(compiler, grammar, tokenizer.encode(text, special=False)), text


def test_settings_name_every_format() -> None:
    assert get_args(ToolFormatName) == ("auto", *FORMATS)


def test_comments_of_a_template_count_as_nothing() -> None:
    source = "{# <tool_call> <|START_ACTION|> #}{% for message in messages %}{{ message.content }}{% endfor %}"
    assert choose_format(source) is FORMATS["generic"]
    assert choose_format(source + "<tool_call>") is FORMATS["hermes"]
