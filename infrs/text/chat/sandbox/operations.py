"""All operations that a chat template can use, with what they cost. The sandbox refuses any other.

A cost gets the operand and the arguments of an operation, and charges a budget before the operation runs. It is an
upper bound for the work and for the memory of the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.runtime import LoopContext, Macro
from jinja2.utils import Cycler
from markupsafe import Markup

from infrs.text.chat.sandbox.render_limits import ELEMENT, STEP, Budget, count_of, size_of, weigh

Values = Sequence[Any]  # the operand, then the arguments
Cost = Callable[[Budget, Values], None]

_ESCAPED = 6  # characters of an escaped one, at most
_PRINTED = 4  # characters of one in Python's form of a nested text
_PIECE = 64  # bytes of a short text or list
_MAX_BITS = 4096  # of an integer in arithmetic
_MAX_OPTION = 256  # of a pattern for dates, or an indent
_MAX_PRECISION = 100
_SLOW = 8  # units of a character that a regular expression reads
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_SPACES = " \t\x1f\xa0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))) + _LINE_ENDS
_NUMBER = re.compile(r"\d+")
_WIDE_FORMAT = re.compile(r"\d{5}|\{[^{}]*\{")  # a width of five digits, or one from an argument
_WIDE_PERCENT = re.compile(r"\d{5}|%[^a-zA-Z%]*\*")


def free(budget: Budget, values: Values) -> None:
    """Charge nothing but the step: the operation looks at one value."""


def linear(budget: Budget, values: Values) -> None:
    """Charge a pass over all operands, and a result of their length as text."""
    budget.afford(_PRINTED * budget.visit(*values) * _escaping(values))


def shallow(budget: Budget, values: Values) -> None:
    """Charge a list of the operand's elements."""
    budget.make(_list_size(values[0]))


def escaped(budget: Budget, values: Values) -> None:
    """Charge a text with each character escaped, in up to 12 characters."""
    budget.afford(2 * _ESCAPED * budget.visit(*values))


def words(budget: Budget, values: Values) -> None:
    """Charge a list of the words of a text."""
    budget.afford(_PIECE * budget.visit(*values))


def squared(budget: Budget, values: Values) -> None:
    """Charge the square of the operands, for what goes over a text again and again."""
    weight = budget.visit(*values) + _width(values)
    budget.work(_SLOW * weight * weight)
    budget.afford(weight * weight)


def product(budget: Budget, values: Values) -> None:
    """Charge the length of a text times that of what is looked for at each place."""
    sought = [value for value in values[1:] if isinstance(value, str)]
    budget.work(budget.visit(values[0]) * budget.visit(*sought))


def wide(budget: Budget, values: Values) -> None:
    """Charge a text with a width, or with an indent in each line."""
    lines = 1 + _count(values[0], _LINE_ENDS)
    weight = budget.visit(*values) + lines * _width(values)
    budget.afford(_PRINTED * weight * _escaping(values))


def batches(budget: Budget, values: Values) -> None:
    """Charge lists of a width, or as many lists as the width says."""
    budget.make(_list_size(values[0]) + _PIECE * (1 + _width(values)))


def summed(budget: Budget, values: Values) -> None:
    """Charge a sum of lists, which copies the sum so far for each."""
    each(budget, values)
    budget.work(count_of(values[0]) * budget.visit(*values))


def looked_up(budget: Budget, values: Values) -> None:
    """Charge the hash of a key, which comes after the operand."""
    budget.visit(*values[1:2])


def each(budget: Budget, values: Values) -> None:
    """Charge a look at each element. What happens to an element is charged by itself."""
    budget.work((1 + _list_size(values[0])) * (STEP // ELEMENT + budget.visit(*values[1:])))


def ordered(budget: Budget, values: Values) -> None:
    """Charge sorting: the comparison of each element with up to 32 others."""
    each(budget, values)
    budget.afford(4 * budget.visit(values[0]))
    budget.work(32 * budget.visit(values[0]))


def hashed(budget: Budget, values: Values) -> None:
    """Charge the worst case of a hash table, in which all elements collide."""
    ordered(budget, values)
    budget.work(_list_size(values[0]) ** 2 // ELEMENT)


def joined(budget: Budget, values: Values) -> None:
    """Charge a text with a separator after each element; `values`: the elements, the separator, an attribute."""
    each(budget, values)
    separators = (1 + _list_size(values[0]) // ELEMENT) * _PRINTED * budget.visit(*values[1:2])
    budget.work(separators)
    budget.afford((_PRINTED * budget.visit(*values) + separators) * _escaping((*values, *_items(values[0]))))


def joined_by(budget: Budget, values: Values) -> None:
    """Charge `separator.join(elements)`."""
    joined(budget, [*values[1:2], values[0]])


def replaced(budget: Budget, values: Values) -> None:
    """Charge a text with all that is found replaced."""
    budget.afford(_PRINTED * budget.visit(*values))
    if len(values) > 2:
        operand, old, new = map(str, values[:3])
        found = operand.count(old) + 1
        budget.work(found * len(new))
        budget.afford((_PRINTED * size_of(operand) + found * size_of(new)) * _escaping(values))


def split(budget: Budget, values: Values) -> None:
    """Charge the pieces of a text, by the separators in it."""
    budget.visit(*values)
    separator = next((value for value in values[1:] if isinstance(value, str) and value), None)
    found = _count(values[0], _SPACES) if separator is None else values[0].count(separator)
    limits = [value for value in values[1:] if isinstance(value, int) and value >= 0]
    budget.make(size_of(values[0]) + _PIECE * (1 + min([found, *limits])))


def split_from_end(budget: Budget, values: Values) -> None:
    """Charge `split`, and the comparison of the separator at each place."""
    product(budget, values)
    split(budget, values)


def split_lines(budget: Budget, values: Values) -> None:
    """Charge the lines of a text."""
    budget.make(budget.visit(*values) + _PIECE * (1 + _count(values[0], _LINE_ENDS)))


def percent_format(budget: Budget, values: Values) -> None:
    """Charge `pattern % values`: all values for each field. Raises TemplateError for a wide field."""
    _format(budget, values, "%", _WIDE_PERCENT)


def brace_format(budget: Budget, values: Values) -> None:
    """Charge `pattern.format(values)`, as `percent_format`."""
    _format(budget, values, "{", _WIDE_FORMAT)


def numbers(budget: Budget, values: Values) -> None:
    """Raise TemplateError for operands that are no numbers, or too large ones."""
    if not all(isinstance(value, int | float) for value in values):
        raise TemplateError("it calculates with a value that is no number")
    check_integers(*values)


def rounded(budget: Budget, values: Values) -> None:
    """Raise TemplateError for a number with too many places."""
    numbers(budget, values[:1])
    if _width(values) > _MAX_PRECISION:
        raise TemplateError("it makes too large a number")


def date(budget: Budget, values: Values) -> None:
    """Raise TemplateError for a long pattern of a date."""
    _check_options(values)


def as_json(budget: Budget, values: Values) -> None:
    """Charge JSON with each character escaped. An indent is charged when it is written."""
    _check_options(values[1:])
    budget.afford(_ESCAPED * budget.visit(values[0]))


def operation(budget: Budget, operator: str, left: Any, right: Any) -> None:  # noqa: ANN401  # any value
    """Charge an operator. Raises TemplateError for powers and large integers."""
    budget.tick()
    if operator == "**":
        raise TemplateError("'**' could make too large a value here")
    check_integers(left, right)
    if operator == "%" and isinstance(left, str):
        percent_format(budget, (left, right))
    elif operator == "*":
        times = max((value for value in (left, right) if isinstance(value, int)), default=1)
        budget.afford(times * max(size_of(left), size_of(right)) * _escaping((left, right)))
    elif operator == "+":
        budget.afford((size_of(left) + size_of(right)) * _escaping((left, right)))


def check_integers(*values: object) -> None:
    """Raise TemplateError for integers above 4096 bits."""
    if any(isinstance(value, int) and value.bit_length() > _MAX_BITS for value in values):
        raise TemplateError("it makes too large a number")


def _format(budget: Budget, values: Values, mark: str, is_wide: re.Pattern[str]) -> None:
    budget.afford(_PRINTED * budget.visit(values[0]))
    pattern = str(values[0])
    if is_wide.search(pattern):
        raise TemplateError("its format is too wide")
    fields = pattern.count(mark)
    width = max((int(found[0]) for found in _NUMBER.finditer(pattern)), default=0) if fields else 0
    weight = budget.visit(*values[1:]) + width
    budget.work(fields * (_SLOW * STEP + weight))
    budget.afford((size_of(pattern) + 2 * _ESCAPED * fields * weight) * _escaping(values))


def _check_options(values: Values) -> None:
    if any(weigh(value) > _MAX_OPTION for value in values) or _width((None, *values)) > _MAX_OPTION:
        raise TemplateError("it makes too large a value with its options")


def _list_size(value: object) -> int:
    """Return the bytes of a list of the elements of a value."""
    if isinstance(value, str):
        return (ELEMENT if value.isascii() else _PIECE) * len(value)
    return ELEMENT * count_of(value)


def _count(value: object, characters: str) -> int:
    return sum(map(value.count, characters)) if isinstance(value, str) else 0


def _items(value: object) -> Values:
    return value if isinstance(value, list | tuple) else ()


def _escaping(values: Values) -> int:
    """Return by how much operands grow: a text that is marked as safe escapes the others."""
    for value in values:
        if isinstance(value, Markup):
            return _ESCAPED
    return 1


def _width(values: Values) -> int:
    """Return the largest width among the arguments. A text is as wide as it is long."""
    return max((abs(value) if isinstance(value, int) else size_of(value) for value in values[1:]), default=0)


FILTERS: dict[str, Cost] = {
    "abs": numbers, "attr": linear, "batch": batches, "capitalize": linear, "center": wide, "count": free, "d": free,
    "default": free, "dictsort": ordered, "e": escaped, "escape": escaped, "filesizeformat": linear, "first": free,
    "float": linear, "forceescape": escaped, "format": percent_format, "groupby": hashed, "indent": wide,
    "int": squared, "items": shallow, "join": joined, "last": free, "length": free, "list": shallow, "lower": linear,
    "map": each, "max": ordered, "min": ordered, "pprint": squared, "random": free, "reject": each,
    "rejectattr": each, "replace": replaced, "reverse": shallow, "round": rounded, "safe": linear, "select": each,
    "selectattr": each, "slice": batches, "sort": ordered, "string": linear, "striptags": squared, "sum": summed,
    "title": words, "tojson": as_json, "trim": product, "truncate": linear, "unique": hashed, "upper": linear,
    "urlencode": escaped, "urlize": squared, "wordcount": words, "wordwrap": squared, "xmlattr": squared,
}  # fmt: skip
TESTS: dict[str, Cost] = {
    **dict.fromkeys(("boolean", "callable", "defined", "escaped", "false", "filter", "float", "integer", "iterable",
                     "mapping", "none", "number", "sameas", "sequence", "string", "test", "true", "undefined"), free),
    **dict.fromkeys(("divisibleby", "even", "odd"), numbers),
    **dict.fromkeys(("!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le",
                     "lessthan", "lower", "lt", "ne", "upper"), linear),
}  # fmt: skip
_TEXT: dict[str, Cost] = {
    **dict.fromkeys(("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii",
                     "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace",
                     "istitle", "isupper", "lower", "partition", "removeprefix", "removesuffix", "startswith",
                     "swapcase", "title", "upper"), linear),
    **dict.fromkeys(("lstrip", "rfind", "rindex", "rpartition", "rstrip", "strip"), product),
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), wide),
    "expandtabs": squared, "format": brace_format, "format_map": brace_format, "join": joined_by,
    "replace": replaced, "rsplit": split_from_end, "split": split, "splitlines": split_lines,
}  # fmt: skip
_LIST: dict[str, Cost] = {"count": linear, "index": linear}
# The methods of values by the type of their owner.
METHODS: dict[type, Mapping[str, Cost]] = {
    str: _TEXT,
    list: _LIST,
    tuple: _LIST,
    dict: {"get": looked_up, "items": free, "keys": free, "values": free},
    LoopContext: {"cycle": free, "changed": linear},
    Cycler: {"next": free, "reset": free},
}
ATTRIBUTES: dict[type, frozenset[str]] = {
    LoopContext: frozenset(
        {"depth", "depth0", "first", "index", "index0", "last", "length", "nextitem", "previtem", "revindex"}
        | {"revindex0"}
    ),
    Macro: frozenset({"arguments", "caller", "catch_kwargs", "catch_varargs", "name"}),
    Cycler: frozenset({"current"}),
    tuple: frozenset({"grouper", "list"}),  # of the filter `groupby`
}
# Statements that read other templates, or that escape what they write.
REFUSED_NODES: dict[type[nodes.Node], str] = {
    nodes.Block: "block", nodes.Extends: "extends", nodes.Include: "include", nodes.Import: "import",
    nodes.FromImport: "from", nodes.EvalContextModifier: "autoescape",
}  # fmt: skip


def methods_of(owner: object) -> Mapping[str, Cost]:
    """Return the methods of a value that a template can call, with their costs."""
    return next((methods for kind, methods in METHODS.items() if isinstance(owner, kind)), {})
