"""The formats of tool calls, and the choice of a model's."""

from __future__ import annotations

import json
import re
from itertools import pairwise

from infrs.text.chat.template import ChatFormat, ChatTemplate
from infrs.text.tools.events import Arguments, CallStart, Event
from infrs.text.tools.fit import derived, fitted
from infrs.text.tools.formats import bare, functionary, glm_4, harmony, literals, marked, named, tagged
from infrs.text.tools.json_format import JsonFormat
from infrs.text.tools.probe import PROBE_ARGUMENTS, PROBE_TOOL, rendered_calls
from infrs.text.tools.tool_format import ToolFormat

# In the order of choice: formats with specific markers first.
FORMATS: dict[str, ToolFormat] = {
    "seed_oss": tagged.SEED_OSS,
    "qwen3_coder": tagged.QWEN_3_CODER,
    "glm": tagged.GLM,
    "minimax_m2": tagged.MINIMAX_M2,
    "hunyuan3": tagged.HUNYUAN_3,
    "minicpm5": tagged.MINICPM_5,
    "deepseek_v3.2": tagged.DEEPSEEK_V3_2,
    "deepseek_v4": tagged.DEEPSEEK_V4,
    "gigachat3.5": tagged.GIGACHAT_3_5,
    "lfm2": literals.LFM_2,
    "olmo3": literals.OLMO_3,
    "gemma4": literals.GEMMA_4,
    "function_gemma": literals.FUNCTION_GEMMA,
    "pythonic": literals.PYTHONIC,
    "mistral": marked.MISTRAL,
    "hermes": marked.HERMES,
    "harmony": harmony.HARMONY,
    "granite": marked.GRANITE,
    "phi": marked.PHI,
    "firefunction": marked.FIREFUNCTION,
    "deepseek_v3": named.DEEPSEEK_V3,
    "deepseek_v3.1": named.DEEPSEEK_V3_1,
    "kimi": named.KIMI,
    "solar": named.SOLAR,
    "command": marked.COMMAND,
    "command_r": marked.COMMAND_R,
    "nemotron": marked.NEMOTRON,
    "tool_calls": marked.TOOL_CALLS,
    "gigachat3": marked.GIGACHAT_3,
    "hyperclovax": marked.HYPERCLOVA_X,
    "internlm": marked.INTERNLM,
    "apertus": marked.APERTUS,
    "functionary": named.FUNCTIONARY,
    "functionary_3.2": functionary.FUNCTIONARY_3_2,
    "glm4": glm_4.GLM_4,
    "llama3": bare.LLAMA_3,
    "gemma": bare.GEMMA,
    "generic": bare.GENERIC,
}

_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


def choose_format(template: ChatFormat | str, name: str = "auto") -> ToolFormat:
    """Return the format in which a chat template writes calls, or the named format.

    template: the format of conversations, or the source of a chat template. If it renders no calls, the first format
    counts that has a sign in a prompt with a tool, or in the template's source. JSON calls between unknown markers
    make a new format. Raises KeyError for an unknown name.
    """
    if name != "auto":
        return FORMATS[name]
    if isinstance(template, str):
        template = ChatTemplate(template, {})
    calls = rendered_calls(template)
    known = [each for each in FORMATS.values() if reads(each, calls.one)]
    # Some formats differ only between calls.
    known = [each for each in known if calls.two and reads(each, calls.two, num_calls=2)] or known
    if known:
        return fitted(known[0], calls) if isinstance(known[0], JsonFormat) else known[0]
    new = derived(calls)
    if new is not None and reads(new, calls.one) and (not calls.two or reads(new, calls.two, num_calls=2)):
        return new
    texts = (calls.prompt, _COMMENT.sub("", template.source))
    signed = (each for text in texts for each in FORMATS.values() if any(sign in text for sign in each.signs))
    return next(signed, bare.GENERIC)


def reads(tool_format: ToolFormat, text: str, *, num_calls: int = 1) -> bool:
    """Return whether a format's parser reads a text as calls of `rendered_calls`, and nothing before them."""
    parser = tool_format.parser({PROBE_TOOL.name}, schemas={PROBE_TOOL.name: PROBE_TOOL.parameters})
    events = [*parser.feed(text), *parser.flush()]
    starts = [index for index, event in enumerate(events) if event == CallStart(PROBE_TOOL.name)]
    found = [events[start:end] for start, end in pairwise([*starts, len(events)])]
    return starts[:1] == [0] and len(starts) == num_calls and all(map(_has_arguments, found))


def _has_arguments(events: list[Event]) -> bool:
    text = "".join(event.text for event in events if isinstance(event, Arguments))
    try:
        return bool(json.loads(text) == PROBE_ARGUMENTS)
    except ValueError:
        return False
