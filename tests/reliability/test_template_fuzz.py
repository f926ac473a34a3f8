"""Templates of a grammar of expressions, filters, methods, loops and macros end within their limits.

Their operands are large on purpose: long texts and lists, wide numbers, values in values.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from infrs.errors import RequestError
from infrs.text.chat.sandbox import operations
from infrs.text.chat.template import ChatTemplate

SECONDS = 6.0  # of the processor, for one rendering; a tenth of it on most
MEBIBYTES = 256  # that one rendering may take
MESSAGES = [{"role": "user", "content": "www.a.com <b>x</b> é\n" * 50, "n": 7, "parts": [{"text": "a b"}] * 20}]

literals = st.sampled_from(
    [
        "'a'", "'a b\\n'", "'{0:>9}'", "'%9s'", "'%(a)s'", "'<'", "'\\U0001F600'", "''", "0", "-1", "7", "9999", "2.5",
        "2305843009213693951", "9" * 1200, "1e308", "true", "none", "[]", "[1, 'a', [2]]", "(1, 2)", "{'a': [1]}",
        "range(99999)", "messages", "messages[0].content", "messages[0]", "messages[0].parts", "ns", "ns.x", "ns.y",
        "item", "loop", "loop.index", "caller", "varargs", "kwargs", "m", "m.name", "missing",
        "cycler('a', messages)", "joiner('a')", "dict(a=ns.x)", "namespace(x=[])", "('www.a.com ' * 99999)",
        "('a' * 9999999)", "('<' * 9999999)", "('\\u00e9' * 999999)", "('9' * 99999)", "('a\\n' * 999999)",
        "([1] * 999999)", "(['a' * 9999] * 9999)",
    ]
)  # fmt: skip
filter_names = st.sampled_from(sorted(operations.FILTERS))
test_names = st.sampled_from(sorted(name for name in operations.TESTS if name.isalpha()))
methods = st.sampled_from(sorted({name for table in operations.METHODS.values() for name in table}))
operators = st.sampled_from(["+", "-", "*", "/", "//", "%", "~", "==", "<", "in", "not in", "and", "or"])
options = st.sampled_from(
    ["", "attribute='a'", "attribute='content'", "width=99999", "99999", "indent=9", "'upper'", "'string', 9",
     "start=[]", "true", "'a', 'b' * 9999", "'', ' ' * 999", "separators=('a' * 99, 'b')", "1, true",
     "by='value', reverse=true", "default='a' * 999", "base=16", "precision=99", "'ceil'", "*ns.y", "**{'a': ns.x}"]
)  # fmt: skip


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions of expressions."""
    arguments = st.one_of(options, st.lists(inner, max_size=2).map(", ".join))
    sliced = st.builds(
        "({})[{}:{}]".format, inner, st.sampled_from(["", "1", "-9"]), st.sampled_from(["", "99999", "::-1"])
    )
    return st.one_of(
        st.builds("({} {} {})".format, inner, operators, inner),
        st.builds("({} | {}({}))".format, inner, filter_names, arguments),
        st.builds(
            "(({}) | {} | list)".format, inner, st.sampled_from(["map('string')", "select", "unique", "batch(9)"])
        ),
        st.builds("({}).{}({})".format, inner, methods, arguments),
        st.builds("({} is {})".format, inner, test_names),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("({} * {})".format, inner, st.sampled_from(["99", "9999", "9999999", "999999999999"])),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("({},)".format, inner),
        st.builds("{{'a': {}}}".format, inner),
        st.builds("{}({}, {})".format, st.sampled_from(["m", "r", "loop.cycle", "loop.changed"]), inner, arguments),
        st.builds(
            "{}({})".format, st.sampled_from(["range", "dict", "cycler", "raise_exception", "strftime_now"]), inner
        ),
        st.builds("({} {})".format, st.sampled_from(["not", "-", "+"]), inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        sliced,
    )


expressions = st.recursive(literals, compound, max_leaves=8)
leaves = st.one_of(
    st.builds("{{{{ {} }}}}".format, expressions),
    st.builds("{{% set ns.x = {} %}}".format, expressions),
    st.builds("{{% set ns.y = [ns.y, {}] %}}".format, expressions),
    st.builds("{{% set ns.x = ns.x {} {} %}}".format, st.sampled_from("+*~%"), expressions),
    st.just("text <&> " * 99),
)


GROWS = "{{% for item in range(99999) %}}{{% set ns.x = ns.x {} ({}) %}}{}{{% endfor %}}"


def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Statements with statements in them."""
    body = st.lists(inner, min_size=1, max_size=3).map("".join)
    return st.one_of(
        st.builds("{{% for item in {} %}}{}{{% endfor %}}".format, expressions, body),
        st.builds("{{% for item in range(99999) if {} %}}{}{{% endfor %}}".format, expressions, body),
        st.builds("{{% for item in {} recursive %}}{}{{{{ loop([1, 2]) }}}}{{% endfor %}}".format, expressions, body),
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, expressions, body, body),
        st.builds("{{% set ns.x %}}{}{{% endset %}}".format, body),
        st.builds("{{% set z | {} %}}{}{{% endset %}}".format, filter_names, body),
        st.builds("{{% filter {} %}}{}{{% endfilter %}}".format, filter_names, body),
        st.builds("{{% call m({}) %}}{}{{% endcall %}}".format, expressions, body),
        st.builds("{{% macro m(item) %}}{}{{{{ caller() if caller }}}}{{% endmacro %}}".format, body),
        st.builds("{{% with item = {} %}}{}{{% endwith %}}".format, expressions, body),
        st.builds("{{% generation %}}{}{{% endgeneration %}}".format, body),
        st.builds(GROWS.format, st.sampled_from(["+", "~", "*", "%", "-"]), expressions, body),
    )


HEAD = (
    "{% set ns = namespace(x='ab', y=[1]) %}{% macro m(item) %}{{ item }}{{ varargs }}{{ kwargs }}{% endmacro %}"
    "{% macro r(item, n=9) %}{{ item }}{% if n %}{{ r(item, n - 1) }}{{ r([item], n - 1) }}{% endif %}{% endmacro %}"
)
templates = st.lists(st.recursive(leaves, blocks, max_leaves=8), min_size=1, max_size=4).map(
    lambda parts: HEAD + "".join(parts)
)


def peak_mebibytes() -> float:
    """The most memory that this process has had since its peak was reset."""
    _, _, after = Path("/proc/self/status").read_text().partition("VmHWM:")
    return int(after.split(maxsplit=1)[0]) / 1024


@pytest.mark.nightly("fuzz: templates of a grammar")
def test_templates_of_a_grammar(figure: Callable[[str], None]) -> None:
    taken, grown, rendered = [], [], []

    @given(source=templates)
    @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    def renders_within_limits(source: str) -> None:
        try:
            template = ChatTemplate(source, {})
        except (TemplateError, SyntaxError):
            return
        Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is what was most
        before, started = peak_mebibytes(), time.thread_time()
        try:
            rendered.append(len(template.render(MESSAGES)))
        except RequestError as error:
            assert error.param == "messages"  # noqa: PT017  # most are refused
        taken.append(time.thread_time() - started)
        grown.append(peak_mebibytes() - before)
        assert taken[-1] < SECONDS
        assert grown[-1] < MEBIBYTES

    renders_within_limits()
    figure(
        f"{len(taken):,} templates, {len(rendered):,} rendered, the others refused with a message: "
        f"{max(taken):.2f} s of the processor and {max(grown):.0f} MiB at most"
    )
