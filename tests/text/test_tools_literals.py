"""Arguments in the notation of a programming language, converted to JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from linear_time import is_linear

from infrs.text.tools.literals.argument_reader import LiteralReader, python_value
from infrs.text.tools.literals.notation import PYTHON, Notation, braces
from infrs.text.tools.tagged.values import json_of

GEMMA = braces('<|"|>')
CASES: list[tuple[Notation, str, dict[str, Any]]] = [
    (PYTHON, ")", {}),
    (PYTHON, 'city="Bonn", days=5)', {"city": "Bonn", "days": 5}),
    (PYTHON, " a = 1 ,\n b = 'x' ,)", {"a": 1, "b": "x"}),
    (PYTHON, "a=True, b=False, c=None, d=true, e=null)", {"a": True, "b": False, "c": None, "d": True, "e": None}),
    (PYTHON, "a=-1, b=1.5, c=2e3, d=1_000, e=.5)", {"a": -1, "b": 1.5, "c": 2000, "d": 1000, "e": 0.5}),
    (PYTHON, "a=nan, b=0x10, c=New York)", {"a": "nan", "b": "0x10", "c": "New York"}),
    (PYTHON, 'a=[1, "b", {"c": None, \'d\': (1, 2)}], b={})', {"a": [1, "b", {"c": None, "d": [1, 2]}], "b": {}}),
    (PYTHON, r'a="\n\t\\\"\'\x41\u00e9\U0001F600\101\q")', {"a": "\n\t\\\"'Aé😀A\\q"}),
    (PYTHON, r'a="\ud83d\ude00")', {"a": "😀"}),
    (PYTHON, 'a="", b="""one "two"\nthree""", c=\'\'\'\'\'\')', {"a": "", "b": 'one "two"\nthree', "c": ""}),
    # Templates that write strings without escapes: a quote inside.
    (PYTHON, "a='it's', b='say 'x', please')", {"a": "it's", "b": "say 'x', please"}),
    (PYTHON, "a=['it's', 'b']", {"a": ["it's", "b"]}),
    (PYTHON, '"Bonn", 5, c=1)', {"first": "Bonn", "second": 5, "c": 1}),
    (PYTHON, "a=" + "x" * 300 + ")", {"a": "x" * 300}),
    (PYTHON, "a=)", {"a": None}),
    (PYTHON, "a=1] b=2)", {"a": 1, "b": 2}),
    (GEMMA, "}", {}),
    (GEMMA, 'city:<|"|>Bonn "x" \\n}<|"|>,days:5}', {"city": 'Bonn "x" \\n}', "days": 5}),
    (GEMMA, 'a:{b:[1,true,<|"|>x<|"|>],c:<|"|><|"|>},d:null}', {"a": {"b": [1, True, "x"], "c": ""}, "d": None}),
]


def read(notation: Notation, pieces: list[str]) -> tuple[str, str, bool]:
    """Return the JSON, the text that is not read, and whether the arguments are over."""
    reader = LiteralReader(notation, ["first", "second"])
    written, rest = "", ""
    for piece in ["", *pieces]:
        json_text, rest = reader.read(rest + piece)
        written += json_text
    return written, rest, reader.is_over


@pytest.mark.parametrize(("notation", "text", "arguments"), CASES, ids=lambda value: str(value)[:30])
def test_arguments_are_read_in_any_pieces(notation: Notation, text: str, arguments: dict[str, Any]) -> None:
    closed = text if text[-1] == notation.close else text + notation.close
    for size in (1, 2, 3, 7, len(closed)):
        written, rest, is_over = read(notation, [closed[start : start + size] for start in range(0, len(closed), size)])
        assert (json.loads(written), rest, is_over) == (arguments, "", True)


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=4), children, max_size=4),
    max_leaves=8,
)


def braced(value: object) -> str:
    """Write a value in Gemma's notation."""
    match value:
        case str():
            return f'<|"|>{value}<|"|>'
        case dict():
            return "{" + ",".join(f"{key}:{braced(child)}" for key, child in value.items()) + "}"
        case list():
            return "[" + ",".join(map(braced, value)) + "]"
    return json.dumps(value)


@settings(max_examples=200, deadline=None)
@given(
    values=st.dictionaries(st.from_regex(r"[a-z]\w{0,3}", fullmatch=True), _VALUES, max_size=3), size=st.integers(1, 9)
)
def test_python_values_are_read_back(values: dict[str, Any], size: int) -> None:
    for spelled in (repr, json.dumps):
        text = ", ".join(f"{name}={spelled(value)}" for name, value in values.items()) + ")"
        written, rest, is_over = read(PYTHON, [text[start : start + size] for start in range(0, len(text), size)])
        assert (json.loads(written), rest, is_over) == (values, "", True)


_BARE_KEYS = st.from_regex(r"[a-z]\w{0,3}", fullmatch=True)
_BRACED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text().filter(lambda text: "<" not in text),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(_BARE_KEYS, children, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(values=st.dictionaries(_BARE_KEYS, _BRACED, max_size=3), size=st.integers(1, 9))
def test_braced_values_are_read_back(values: dict[str, Any], size: int) -> None:
    text = braced(values)[1:]
    written, rest, is_over = read(GEMMA, [text[start : start + size] for start in range(0, len(text), size)])
    assert (json.loads(written), rest, is_over) == (values, "", True)


_PARTS = st.sampled_from(
    [
        *(
            "a=",
            "b:",
            '"',
            "'",
            '"""',
            '<|"|>',
            "\\",
            "\\u12",
            "\\x4",
            "\\N",
            "[",
            "]",
            "{",
            "}",
            "(",
            ")",
            ",",
            " ",
            "\n",
        ),
        *("True", "1", "-", "x" * 140, "é", "=", ":", ", c=", "')", '",'),
    ]
)


@settings(max_examples=300, deadline=None)
@example(parts=["a=", '"', "x", '"', " " * 17, ")"], cuts=[8])
@given(parts=st.lists(_PARTS, max_size=14), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_text_gives_json_in_any_pieces(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for notation in (PYTHON, GEMMA):
        whole = read(notation, [text])
        assert read(notation, [text[start:end] for start, end in pairwise(borders)]) == whole
        assert read(notation, list(text)) == whole
        if whole[2]:
            assert isinstance(json.loads(whole[0]), dict)


@pytest.mark.parametrize("unit", ["a=1, ", '"', "'", "\\", "[", "{", "x", " ", "a", '", b="', ",", "=", '<|"|>', "\\u"])
@pytest.mark.parametrize("notation", [PYTHON, GEMMA], ids=["python", "gemma"])
def test_time_is_linear(notation: Notation, unit: str) -> None:
    def work(count: int) -> None:
        text = "a=" + unit * count
        read(notation, [text[start : start + 5] for start in range(0, len(text), 5)])

    assert is_linear(work, 2000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        (" 7\n", 7),
        ("1e3", 1000),
        ("true", True),
        ("True", True),
        ("None", None),
        ('{"a": [1]}', {"a": [1]}),
        ("{'a': [True, None, 'it\\'s']}", {"a": [True, None, "it's"]}),
        ("['a', 'b']", ["a", "b"]),
        ('"quoted"', "quoted"),
        ("Bonn", "Bonn"),
        (" a\n", " a\n"),
        ("[1, 2", "[1, 2"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),
        ("", ""),
    ],
    ids=lambda value: str(value)[:20],
)
def test_text_is_the_json_or_python_value_that_it_spells(text: str, value: object) -> None:
    assert json.loads(json_of(text)) == value


def test_only_whole_python_values_are_read() -> None:
    assert [python_value(text) for text in ("[1, 2] x", "[1", "abc", "[1])")] == [None] * 4
