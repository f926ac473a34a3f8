"""Limit a JSON schema before it is compiled: a schema is an untrusted program.

The compiler's time grows with the square of an object's properties: 1,000 take 0.2 s, 10,000 take 20 s. These limits
keep it below a second without a timer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from infrs.errors import RequestError
from infrs.text.schemas.tree import LOWER, resolve

MAX_CHARS = 1 << 18
MAX_DEPTH = 64
MAX_PROPERTIES = 1000
MAX_ENUM = 5000
MAX_BOUND = 1 << 20  # of lengths and counts, from below
MAX_MULTIPLE = 50_000  # of a multipleOf, and of the least common multiple of all, without trailing zeros
MAX_BRANCHES = 256  # of anyOf, oneOf and allOf in all
MAX_MERGED = 256  # of combinations of alternatives in an allOf, and of schemas that $ref and allOf merge into one

_MANY = 1 << 32
_BRANCHES = ("anyOf", "oneOf", "allOf")


def parse_schema(text: str, param: str) -> Any:  # noqa: ANN401  # any JSON
    """Parse and check the JSON of a schema. Raises RequestError."""
    if len(text) > MAX_CHARS:
        raise _too_complex(f"it has {len(text)} characters, but at most {MAX_CHARS} are allowed", param)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the JSON schema is not valid JSON ({error})", param=param, code="invalid_schema") from None
    check_schema(schema, param)
    return schema


def check_schema(schema: object, param: str) -> None:
    """Raise RequestError with code schema_too_complex or schema_recursive for a schema beyond the limits."""
    num_properties = num_enum = num_branches = 0
    for node, depth in _nodes(schema):
        if depth > MAX_DEPTH:
            raise _too_complex(f"it is nested deeper than {MAX_DEPTH} levels", param)
        num_properties += len(_sized(node, "properties")) + len(_sized(node, "patternProperties"))
        num_enum += len(_sized(node, "enum"))
        num_branches += sum(len(_sized(node, name)) for name in _BRANCHES)
        large = [name for name in LOWER if isinstance(node.get(name), int | float) and node[name] > MAX_BOUND]
        if large:
            raise _too_complex(f"{large[0]} is more than {MAX_BOUND}", param)
    for count, most, what in (
        (num_properties, MAX_PROPERTIES, "properties"),
        (num_enum, MAX_ENUM, "enum values"),
        (num_branches, MAX_BRANCHES, "branches of anyOf, oneOf and allOf"),
    ):
        if count > most:
            raise _too_complex(f"it has {count} {what}, but at most {most} are allowed", param)
    _refuse_large_multiples(schema, param)
    _refuse_ref_cycles(schema, param)
    if _Merged(schema).too_many():
        raise _too_complex(f"its allOf, anyOf and $ref make more than {MAX_MERGED} combinations", param)


def _nodes(schema: object) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Yield each object in a schema with its depth, down to one level below MAX_DEPTH."""
    level: list[object] = [schema]
    depth = 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                yield node, depth
                below += node.values()
            elif isinstance(node, list):
                below += node
        level = [node for node in below if isinstance(node, dict | list)]
    if level:
        yield {}, depth + 1


def _sized(node: Mapping[str, Any], name: str) -> list[Any] | dict[str, Any]:
    value = node.get(name)
    return value if isinstance(value, list | dict) else []


def _refuse_large_multiples(schema: object, param: str) -> None:
    """Raise RequestError for large `multipleOf`: the compiler has a state for each remainder of a common multiple."""
    common, power = 1, 0  # common * 10**power
    for node, _ in _nodes(schema):
        value = node.get("multipleOf")
        number = Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else Decimal(0)
        if not number or not number.is_finite():
            continue  # the compiler refuses these
        _, digits, exponent = number.as_tuple()
        units, exponent = _without_zeros(int("".join(map(str, digits))), int(exponent))
        least = min(power, exponent)
        together = math.lcm(common * 10 ** (power - least), units * 10 ** (exponent - least))
        common, power = _without_zeros(together, least)
        if max(units, common) > MAX_MULTIPLE:
            raise _too_complex(f"its multipleOf have a common multiple of more than {MAX_MULTIPLE}", param)


def _without_zeros(number: int, exponent: int) -> tuple[int, int]:
    """Return an equal number * 10**exponent without trailing zeros in the number."""
    while number % 10 == 0:
        number, exponent = number // 10, exponent + 1
    return number, exponent


def _refuse_ref_cycles(schema: object, param: str) -> None:
    """Raise RequestError for a circle of `{"$ref": A}` that leads to references only."""
    ending: set[str] = set()  # references that do not lead in a circle; each is followed once
    for node, _ in _nodes(schema):
        seen: set[str] = set()
        target: object = node
        while isinstance(target, dict) and isinstance(target.get("$ref"), str) and target["$ref"] not in ending:
            reference = target["$ref"]
            if reference in seen:
                raise RequestError(
                    f"the JSON schema's $ref {ascii(reference)[:80]} leads back to itself; give it a definition",
                    param=param,
                    code="schema_recursive",
                )
            seen.add(reference)
            target = resolve(schema, reference)
        ending |= seen


class _Merged:
    """A count of the schemas that the compiler merges into one, for each node and through references."""

    def __init__(self, schema: object) -> None:
        self._schema = schema
        self._counts: dict[int, tuple[int, int, int]] = {}

    def too_many(self) -> bool:
        """Return whether a node exceeds MAX_MERGED."""
        try:
            alternatives, deepest, size = self._count(self._schema)
        except RecursionError:
            return True
        return max(alternatives, deepest, size) > MAX_MERGED

    def _count(self, node: object) -> tuple[int, int, int]:
        """Return a node's alternatives, the maximum of alternatives inside it, and the maximum of merged schemas."""
        if isinstance(node, list):
            counts = [self._count(child) for child in node]
            return 1, max((count[1] for count in counts), default=1), max((count[2] for count in counts), default=1)
        if not isinstance(node, dict):
            return 1, 1, 1
        if id(node) in self._counts:
            return self._counts[id(node)]
        self._counts[id(node)] = 1, 1, 1  # for a recursive schema, which returns here during the count
        inside = [self._count(child) for child in node.values() if isinstance(child, dict | list)]
        together = [self._count(child) for child in _sized(node, "allOf")]
        if isinstance(node.get("$ref"), str):
            together.append(self._count(resolve(self._schema, node["$ref"])))
        alternatives = math.prod(deepest for _, deepest, _ in together)
        for name in ("anyOf", "oneOf"):
            alternatives *= sum(self._count(child)[0] for child in _sized(node, name)) or 1
        size = 1 + sum(size for _, _, size in together)
        self._counts[id(node)] = (
            min(alternatives, _MANY),
            min(max(alternatives, *(count[1] for count in (*inside, *together)), 1), _MANY),
            min(max(size, *(count[2] for count in inside), 1), _MANY),
        )
        return self._counts[id(node)]


def _too_complex(reason: str, param: str) -> RequestError:
    return RequestError(
        f"the JSON schema is too complex: {reason}; simplify it", param=param, code="schema_too_complex"
    )
