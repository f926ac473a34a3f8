"""A chat template cannot hang the server or fill its memory."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hostile_templates import ATTACKS
from jinja2 import TemplateError, TemplateSyntaxError, filters, tests

from infrs.errors import RequestError
from infrs.text.chat.sandbox import operations, render_limits
from infrs.text.chat.sandbox.render_limits import MAX_MADE, Budget, weigh
from infrs.text.chat.template import ChatTemplate

SECONDS = 6.0  # of the processor, for one rendering; most take a hundredth of it
MEBIBYTES = 256
USER = {"role": "user", "content": "www.example.com/a(b) " * 2000}


def peak_mebibytes() -> float:
    """The most memory that this process has had since its peak was reset."""
    _, _, after = Path("/proc/self/status").read_text().partition("VmHWM:")
    return int(after.split(maxsplit=1)[0]) / 1024


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_template_is_refused_within_its_limits(name: str) -> None:
    template = ChatTemplate(ATTACKS[name], {})
    Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is what was most
    before, started = peak_mebibytes(), time.thread_time()
    with pytest.raises(RequestError, match="refuses these messages: ") as caught:
        template.render([USER])
    assert time.thread_time() - started < SECONDS
    assert peak_mebibytes() - before < MEBIBYTES
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% block a %}{{ self.a() }}{% endblock %}", "block"),
        ("{% extends 'a' %}", "extends"),
        ("{% include 'a' %}", "include"),
        ("{% import 'a' as b %}", "import"),
        ("{% from 'a' import b %}", "from"),
        ("{% autoescape true %}{{ '<' * 9 }}{% endautoescape %}", "autoescape"),
    ],
)
def test_statement_without_a_bound_is_refused_at_load(template: str, message: str) -> None:
    with pytest.raises(TemplateSyntaxError, match=f"{message} %}} is not supported in chat templates"):
        ChatTemplate(template, {})


def test_block_that_makes_no_text_is_refused() -> None:
    with pytest.raises(RequestError, match="refuses these messages"):
        ChatTemplate("{% filter list %}a{% endfilter %}", {}).render([USER])


def test_all_operations_of_jinja_have_a_cost() -> None:
    """Another version of Jinja can bring more, which the sandbox refuses until they have one."""
    assert set(operations.FILTERS) == set(filters.FILTERS)
    assert set(operations.TESTS) == set(tests.TESTS)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ 'a-b'.split('-') | join('+') | upper }}", "A+B"),
        (
            "{{ 'a b' | wordwrap(1) }}{{ 'www.a.com' | urlize }}",
            'a\nb<a href="https://www.a.com" rel="noopener">www.a.com</a>',
        ),
        (
            "{{ [3, 1, 3] | unique | sort | list }}{{ [1, 2, 3] | sum }}{{ [[1], [2]] | sum(start=[]) }}",
            "[1, 3]6[1, 2]",
        ),
        ("{{ (7 // 2, 7 % 2, 7 / 2, 7 - 2, -7) }}", "(3, 1, 3.5, 5, -7)"),
        ("{{ '{0}:{1:>3}'.format('a', 7) }}{{ '%s:%3d' % ('a', 7) }}{{ '%s' | format(1) }}", "a:  7a:  71"),
        ("{{ 'abc'[1:] }}{{ [1, 2, 3][::-1] }}{{ (1, 2)[:1] }}", "bc[3, 2, 1](1,)"),
        (
            "{% for a in [1, 2] %}{{ loop.index }}{{ loop.cycle('x', 'y') }}{{ loop.changed(a) }}{% endfor %}",
            "1xTrue2yTrue",
        ),
        ("{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{% set j = joiner('-') %}{{ j() }}{{ j() }}", "12-"),
        ("{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, b=3) }}", "1(2,){'b': 3}"),
        ("{{ [{'a': 1}, {'a': 2}] | map(attribute='a') | list }}{{ range(3) | select('odd') | list }}", "[1, 2][1]"),
        ("{% for g, items in [{'a': 1}] | groupby('a') %}{{ g }}{{ items }}{% endfor %}", "1[{'a': 1}]"),
        (
            "{{ 1 in [1, 2] }}{{ 'a' in 'ab' }}{{ 3 not in (1, 2) }}{{ 1 < 2 < 3 }}{{ 'a' in {'a': 1} }}",
            "TrueTrueTrueTrueTrue",
        ),
        ("{{ {'b': [1, {'c': 'é'}]} | tojson(indent=1) }}", '{\n "b": [\n  1,\n  {\n   "c": "é"\n  }\n ]\n}'),
        ("{{ dict(a=1).get('a') }}{{ dict([['b', 2]]) }}{{ {'x': 1}.items() | list }}", "1{'b': 2}[('x', 1)]"),
        (
            "{{ 'a\nb' | indent(2) }}{{ ' a ' | trim }}{{ 'ab' | replace('a', 'c') }}{{ 2.345 | round(1) }}",
            "a\n  bacb2.3",
        ),
    ],
)
def test_ordinary_operations_work(template: str, expected: str) -> None:
    assert ChatTemplate(template, {}).render([]) == expected


@pytest.mark.parametrize(
    "value", ["a" * 999, ["a" * 9] * 99, {"a": ["b", {"c": [1] * 50}]}, (1, (2, (3,))), range(9), {}.keys()]
)
def test_weight_is_at_least_the_length_as_text(value: object) -> None:
    assert weigh(value) >= len(str(value)) / 4


def test_weight_counts_a_value_in_each_place_and_stops_at_the_limit() -> None:
    value: list[object] = [1]
    for _ in range(200):
        value = [value, value]
    assert MAX_MADE < weigh(value) < 2 * MAX_MADE


def test_work_has_an_end_without_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same template ends at the same step on any machine."""
    monkeypatch.setattr(render_limits, "SECONDS", float("inf"))
    budget = Budget()
    steps = 0
    with contextlib.suppress(TemplateError):
        while budget.tick():
            steps += 1
    assert 100_000 < steps < 10_000_000
