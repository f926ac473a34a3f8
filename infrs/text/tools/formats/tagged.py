"""Formats that write each argument of a call between tags."""

from __future__ import annotations

from infrs.text.tools.call_layout import BREAK
from infrs.text.tools.tagged.dialect_tags import Tags
from infrs.text.tools.tagged.format import TaggedFormat

# Qwen3-Coder, Qwen 3.5, Nemotron 3, Step 3.5. Answers often lack the tag of the block.
QWEN_3_CODER = TaggedFormat(
    Tags(
        block=("<tool_call>\n", "\n</tool_call>"),
        call=("<function=", ">\n", "</function>"),
        key=("<parameter=", ">\n"),
        value_end="\n</parameter>\n",
        join=BREAK,
        tokens=("<tool_call>", "</tool_call>"),
        needs_block=False,
    ),
    signs=("<parameter=",),
)
# GLM 4.5 and 4.6 with line breaks, GLM 4.7 without.
GLM = TaggedFormat(
    Tags(
        block=("<tool_call>", "</tool_call>"),
        call=("", BREAK, ""),
        key=("<arg_key>", f"</arg_key>{BREAK}<arg_value>"),
        value_end=f"</arg_value>{BREAK}",
        join=BREAK,
        tokens=("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    ),
    signs=("<arg_key>",),
)
MINIMAX_M2 = TaggedFormat(
    Tags(
        block=("<minimax:tool_call>\n", "\n</minimax:tool_call>"),
        call=('<invoke name="', '">\n', "</invoke>"),
        key=('<parameter name="', '">'),
        value_end="</parameter>\n",
        join="\n",
        tokens=("<minimax:tool_call>", "</minimax:tool_call>"),
        holds_many=True,
    ),
    signs=("<minimax:tool_call>",),
)
SEED_OSS = TaggedFormat(
    Tags(
        block=("<seed:tool_call>\n", "\n</seed:tool_call>"),
        call=("<function=", ">\n", "</function>"),
        key=("<parameter=", ">"),
        value_end="</parameter>\n",
        join="\n",
        tokens=("<seed:tool_call>", "</seed:tool_call>"),
    ),
    signs=("<seed:tool_call>",),
)
# MiniCPM 5. Each call is a block.
MINICPM_5 = TaggedFormat(
    Tags(
        block=('<function name="', "</function>"),
        call=("", '">', ""),
        key=('<param name="', '">'),
        value_end="</param>",
        join="\n",
        tokens=(),
        quotes=("<![CDATA[", "]]>"),
    ),
    signs=('<function name="',),
)
# Hunyuan 3. All its markers are control tokens, and each has a suffix.
HUNYUAN_3 = TaggedFormat(
    Tags(
        block=("<tool_calls:opensource>\n", "\n</tool_calls:opensource>"),
        call=("<tool_call:opensource>", "<tool_sep:opensource>\n", "</tool_call:opensource>"),
        key=("<arg_key:opensource>", "</arg_key:opensource>\n<arg_value:opensource>"),
        value_end="</arg_value:opensource>\n",
        join="\n",
        tokens=tuple(
            f"<{slash}{name}:opensource>"
            for name in ("tool_calls", "tool_call", "tool_sep", "arg_key", "arg_value")
            for slash in ("", "/")[: 1 if name == "tool_sep" else 2]
        ),
        holds_many=True,
    ),
    signs=("<tool_calls:opensource>",),
)

_BAR = "\N{FULLWIDTH VERTICAL LINE}"


def _dsml(block: str, name: str = "DSML") -> TaggedFormat:
    tag = f"{_BAR}{name}{_BAR}"
    return TaggedFormat(
        Tags(
            block=(f"<{tag}{block}>\n", f"\n</{tag}{block}>"),
            call=(f'<{tag}invoke name="', '">\n', f"</{tag}invoke>"),
            key=(f'<{tag}parameter name="', '" string="false">'),
            key_of_text='" string="true">',
            value_end=f"</{tag}parameter>\n",
            join="\n",
            tokens=(),
            holds_many=True,
        ),
        signs=(f"{name}{_BAR}{block}>",),
    )


DEEPSEEK_V3_2, DEEPSEEK_V4 = _dsml("function_calls"), _dsml("tool_calls")
GIGACHAT_3_5 = _dsml("tool_calls", "GCML")
