"""Reasoning blocks split from answers, whole and in pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_templates import REAL_TEMPLATES, chat_template
from tokenizers import Tokenizer as Backend
from tokenizers import models

from infrs.models.load import shown_ids
from infrs.text.answer_reader import AnswerReader
from infrs.text.chat.template import ChatTemplate
from infrs.text.reasoning.splitter import ReasoningSplitter
from infrs.text.reasoning.tags import TAGS, THINK, Tags, find_tags
from infrs.text.tokenizer import Tokenizer
from infrs.text.tools.events import Arguments, CallStart, Content, Reasoning
from infrs.text.tools.formats import FORMATS

# inside, text, reasoning, content
CASES = [
    (False, "Hi.", "", "Hi."),
    (False, "  Hi. ", "", "  Hi. "),
    (False, "<think>\nHm, 2+2.\n</think>\n\nIt is 4.\n", "Hm, 2+2.", "It is 4.\n"),
    (False, "\n<think>a</think>b", "a", "b"),
    (False, "<think>\n\n</think>\n\nb", "", "b"),
    (False, "a <think>b</think>", "", "a <think>b</think>"),
    (False, "<think>never ends </thin", "never ends </thin", ""),
    (False, "<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
    (False, "<thi", "", "<thi"),
    (False, "<think>a < b\n\n  c </think", "a < b\n\n  c </think", ""),
    (True, "Hm.\n</think>\n\nYes.", "Hm.", "Yes."),
    (True, "\nHm", "Hm", ""),
    (True, "</think>Yes.", "", "Yes."),
    (True, "<think>a</think>b", "<think>a", "b"),
    (False, "", "", ""),
]


def read(splitter: ReasoningSplitter, pieces: list[str]) -> tuple[str, str]:
    events = [*(event for piece in pieces for event in splitter.feed(piece)), *splitter.flush()]
    assert all(event.text for event in events if isinstance(event, Content | Reasoning))
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    return reasoning, "".join(event.text for event in events if isinstance(event, Content))


@pytest.mark.parametrize(("inside", "text", "reasoning", "content"), CASES)
def test_cases(inside: bool, text: str, reasoning: str, content: str) -> None:
    for size in (1, 2, 5, 100):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert read(ReasoningSplitter(inside=inside), pieces) == (reasoning, content)


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["<think>", "</think>", "<thi", "</", "nk>", " ", "\n", "a", "é"]), max_size=12),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    inside=st.booleans(),
)
def test_any_text_in_any_pieces(parts: list[str], cuts: list[int], inside: bool) -> None:
    text = "".join(parts)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(borders)]
    whole = read(ReasoningSplitter(inside=inside), [text])
    assert read(ReasoningSplitter(inside=inside), pieces) == whole
    assert read(ReasoningSplitter(inside=inside), list(text)) == whole
    kept = "".join("".join(whole).split())
    tags = "<think>", "</think>"
    assert kept in {"".join(text.split()), *("".join(text.split()).replace(tag, "", 1) for tag in tags)} or (
        kept == "".join(text.split()).replace(tags[0], "", 1).replace(tags[1], "", 1)
    )


@pytest.mark.parametrize("tags", TAGS, ids=lambda tags: tags.open)
def test_tags_of_every_kind(tags: Tags) -> None:
    text = f"{tags.open}Hm, 2+2.\n{tags.close}\n\nIt is 4."
    for size in (1, 3, len(text)):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert read(ReasoningSplitter(tags), pieces) == ("Hm, 2+2.", "It is 4.")
    inside = text.removeprefix(tags.open)
    assert read(ReasoningSplitter(tags, inside=True), list(inside)) == ("Hm, 2+2.", "It is 4.")
    assert tags.opens_block(f"assistant\n{tags.open}\n")
    assert not tags.opens_block(f"assistant\n{tags.open}\n\n{tags.close}\n\n")


# The opening tags that real templates show; any other real template shows none.
SHOWN = {
    "<think>": "qwq qwen-3 qwen-3.5 qwen-3.5-no-thinking qwen-3.6 phi-4 deepseek-r1-distill-llama "
    "deepseek-r1-distill-qwen deepseek-v3 deepseek-v3.1 deepseek-v3.2 deepseek-v4 kimi-k2-thinking glm-4.5 glm-4.6 "
    "glm-4.7-flash lfm-2.5 granite-3.3 smollm-3 minimax-m2 nemotron-nano-2 nemotron-3-nano hunyuan-a13b bielik-3 "
    "step-3.5-flash rwkv-world qwen-3.8 magistral-small-2507 deepseek-v4-flash lfm-2.5-8b-a1b exaone-4 "
    "nemotron-3-super laguna-s-2.1 ling-3.0-flash reka-edge spark-2.5 minicpm-5 laguna-xs-2.1 lfm-2.5-instruct "
    "lfm-2.5-vl nemotron-3-ultra nemotron-3.5-lightning",
    "<think:opensource>": "hunyuan-3",
    "<mm:think>": "minimax-m3",
    "<|open|>think<|sep|>": "kimi-k3",
    "<|think|>": "solar-open",
    "[THINK]": "ministral-3-reasoning magistral-small-2509",
    "<|START_THINKING|>": "command-r7b-tool-use command-a-tool-use cohere-2-moe",
    "<seed:think>": "seed-oss",
    "<|channel>thought\n": "gemma-4 gemma-4-31b gemma-4-interleaved gemma-4-v5",
    "<|channel|>analysis<|message|>": "gpt-oss",
}


@pytest.mark.parametrize("name", REAL_TEMPLATES)
def test_tags_of_real_templates(name: str) -> None:
    tags = find_tags(chat_template(name))
    expected = [opening for opening, names in SHOWN.items() if name in names.split()]
    assert ([] if tags is None else [tags.open]) == expected


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ messages }}", False),
        ("{# <think></think> #}{% for m in messages %}{{ m.content }}{% endfor %}", False),
        ("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}", True),
        ("{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}", True),
        ("{% if enable_thinking is false %}<think>\n\n</think>{% endif %}", True),
        ("{% for m in messages %}<think>{{ m.reasoning_content }}</think>{{ m.content }}{% endfor %}", True),
        ("{{ raise_exception('no') }}<think>", True),
    ],
)
def test_tags_are_found_by_rendering(source: str, shown: bool) -> None:
    assert find_tags(ChatTemplate(source, {})) == (THINK if shown else None)


def test_calls_are_looked_for_after_the_reasoning_only() -> None:
    call = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    reader = AnswerReader(ReasoningSplitter(inside=True), FORMATS["hermes"].parser(frozenset({"weather"}), None))
    events = [*reader.feed(f"I may write {call}"), *reader.feed(f"\n</think>\n\n{call}"), *reader.flush()]
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    assert reasoning == f"I may write {call}"
    assert [event for event in events if not isinstance(event, Reasoning)] == [CallStart("weather"), Arguments("{}")]
    assert AnswerReader(None, None).feed("x") == [Content("x")]
    assert AnswerReader(None, None).flush() == []


def test_answers_show_the_control_tokens_of_tags_and_calls() -> None:
    backend = Backend(models.BPE())
    backend.add_special_tokens(["<|channel|>", "<|message|>", "<|end|>", "<tool_call>", "[THINK]", "<|return|>"])
    tokenizer = Tokenizer(backend.to_str())
    tags = next(tags for tags in TAGS if tags.open == "<|channel|>analysis<|message|>")
    shown = {tokenizer.token(token_id) for token_id in shown_ids(tokenizer, FORMATS["hermes"], tags)}
    assert shown == {"<|channel|>", "<|message|>", "<|end|>", "<tool_call>"}
    assert not shown_ids(tokenizer, FORMATS["mistral"], None)


def test_channels_of_an_answer_without_tools() -> None:
    tags = next(tags for tags in TAGS if tags.open == "<|channel|>analysis<|message|>")
    text = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>analysis<|message|> Sure.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>It is <4>.<|return|>"
    )
    for size in (1, 4, len(text)):
        reader = AnswerReader(ReasoningSplitter(tags), FORMATS["harmony"].parser(()))
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        events = [*(event for piece in pieces for event in reader.feed(piece)), *reader.flush()]
        assert "".join(event.text for event in events if isinstance(event, Reasoning)) == "Hm. Sure."
        assert "".join(event.text for event in events if isinstance(event, Content)) == "It is <4>."
