"""The tags around reasoning, and those of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infrs.errors import RequestError
from infrs.text.chat.conversation import declared
from infrs.text.chat.template import ChatFormat
from infrs.text.tools.call_grammar import Tool


@dataclass(frozen=True, slots=True)
class Tags:
    """The texts before and after a reasoning block."""

    open: str
    close: str

    def opens_block(self, prompt: str) -> bool:
        """Return whether a prompt, or its last part, ends inside a block, so that the answer begins with reasoning."""
        return prompt.rstrip().endswith(self.open.rstrip())


THINK = Tags("<think>", "</think>")
TAGS = (
    THINK,
    Tags("<think:opensource>", "</think:opensource>"),  # Hunyuan 3
    Tags("[THINK]", "[/THINK]"),  # Magistral, Ministral 3
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    Tags("<seed:think>", "</seed:think>"),  # Seed-OSS
    Tags("<|channel>thought\n", "<channel|>"),  # Gemma 4
    Tags("<mm:think>", "</mm:think>"),  # MiniMax M3
    Tags("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>"),  # Kimi K3
    Tags("<|think|>", "<|end|><|begin|>assistant"),  # Solar Open
    Tags("<|channel|>analysis<|message|>", "<|end|>"),  # gpt-oss
    Tags("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Tags("<reasoning>", "</reasoning>"),
    Tags("<thinking>", "</thinking>"),
    Tags("<thought>", "</thought>"),
    Tags("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi-VL
)
_QUESTION, _ANSWER, _REASON = "7710010", "7710020", "7710030"  # no template changes digits
_FIELDS = ("reasoning_content", "reasoning", "thinking", "thought")
_SWITCHES: tuple[Mapping[str, Any], ...] = (
    {},
    {"enable_thinking": True, "thinking": True},
    {"enable_thinking": False, "thinking": False},
    {"tools": declared([Tool("f", "", {"type": "object", "properties": {}})])},
)
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


def find_tags(template: ChatFormat) -> Tags | None:
    """Return the tags of a model's reasoning, as its chat template shows them; None if it shows none.

    In this order: around the reasoning of a past answer; in a prompt; removed from an old answer.
    """
    for fields in (_FIELDS, *((field,) for field in _FIELDS)):  # a template may refuse some of them
        tags = _around(_rendered(template, {"content": _ANSWER, **dict.fromkeys(fields, _REASON)}))
        if tags is not None:
            return tags
    texts = [_rendered(template, variables=variables) for variables in _SWITCHES]
    texts.append(_rendered(template, {"content": _ANSWER}))
    if not any(texts):
        texts.append(_COMMENT.sub("", template.source))
    fits = (tags for tags in TAGS if any(tags.open in text for text in texts) or _removes(template, tags))
    return next(fits, None)


def _around(prompt: str) -> Tags | None:
    """Return the tags around _REASON in a rendering."""
    before, found, after = prompt.partition(_REASON)
    before, after = before.rstrip(), after.lstrip()
    fits = (tags for tags in TAGS if before.endswith(tags.open.rstrip()) or after.startswith(tags.close))
    return next(fits, None) if found else None


def _removes(template: ChatFormat, tags: Tags) -> bool:
    """Return whether a template removes a block with these tags from an old answer."""
    old = {"content": f"{tags.open}{_REASON}{tags.close}{_ANSWER}"}
    prompt = _rendered(template, old, {"content": _ANSWER})
    return _ANSWER in prompt and _REASON not in prompt


def _rendered(template: ChatFormat, *answers: Mapping[str, Any], variables: Mapping[str, Any] | None = None) -> str:
    """Return a conversation, which ends with an answer if there is one, else where an answer begins."""
    messages = [{"role": "user", "content": _QUESTION}]
    for answer in answers:
        messages += [{"role": "assistant", **answer}, {"role": "user", "content": _QUESTION}]
    if answers:
        messages.pop()
    try:
        return template.render(messages, add_generation_prompt=not answers, variables=variables)
    except RequestError:
        return ""
