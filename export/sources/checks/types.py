"""Refuse values of config.json that are of another type than the model's class expects.

transformers checks few types: a flag of "false" is true, and a width of text fails deep inside PyTorch.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from transformers import PretrainedConfig
from transformers.activations import ACT2FN

from infrs.errors import SourceError

from ..config_check import LARGEST, first_line

_IDS = "a token id or a list of them"
_ACTIVATION = "the name of an activation that transformers knows"
_FLAG, _NUMBER, _TEXT, _OBJECT = "true or false", "a number", "a text", "an object"
_SIZE = 'a number or "auto"'
_BY_NAME = (
    (re.compile(r"^(bos|eos|pad|sep|cls|mask)_token_id$"), _IDS),
    (re.compile(r"^(hidden_act|hidden_activation|activation_function|activation)$"), _ACTIVATION),
    (re.compile(r"^rope_(scaling|parameters)$"), _OBJECT),
)
_BY_DEFAULT = ((bool, _FLAG), (int | float, _NUMBER), (str, _TEXT))
# Numbers with None as their default.
_OPTIONAL = re.compile(r"(window|clip\w*|soft_?cap(ping)?|scale|scaling|scalar|multiplier|factor|theta|_base)$")
_HIGHEST = 1e18  # beyond it, products overflow in float32
_MAX_ID = 1 << 32


def check_types(given: Mapping[str, Any], of: type[PretrainedConfig]) -> None:
    """Raise SourceError, with the name, for a field that the class `of` cannot take. null is left to transformers."""
    defaults: dict[str, Any] = {}
    by_layer: set[str] = set()  # fields that may be a list (gemma3n)
    for one in (PretrainedConfig, of):
        parameters = inspect.signature(one.__init__).parameters.values()
        defaults |= {item.name: item.default for item in parameters if item.default is not item.empty}
        by_layer |= {item.name for item in parameters if "list[int]" in str(item.annotation)}
    for name in sorted(given.keys() & defaults.keys()):
        value, form = given[name], _form(name, defaults[name])
        if form == _NUMBER and name in by_layer and isinstance(value, list) and all(map(_is_number, value)):
            continue
        if value is not None and form is not None and not _FORMS[form](value):
            raise SourceError(f"config.json gives {name} as {value!r:.60}, which is not {form}; correct it")


def culprit(error: Exception, given: Mapping[str, Any], make: Callable[[dict[str, Any]], object]) -> SourceError:
    """Return the error for a configuration that `make` fails on. It names the field that causes the failure.

    Without it, `make` succeeds, or else fails in another way. Sizes come last, because their defaults hide others.
    """
    likely = sorted(given, key=lambda name: (given[name] is not None, name in LARGEST))
    outcomes = {name: _failure(make, {other: given[other] for other in given if other != name}) for name in likely}
    found = [name for name in likely if outcomes[name] is None]
    found += [name for name in likely if outcomes[name] != first_line(error)]
    if not found:
        return SourceError(f"transformers cannot use config.json: {first_line(error):.200}; check the model's files")
    said = f"{given[found[0]]!r:.60}, which transformers cannot use ({first_line(error):.200})"
    return SourceError(f"config.json gives {found[0]} as {said}; correct it")


def _failure(make: Callable[[dict[str, Any]], object], fields: dict[str, Any]) -> str | None:
    """Return the message of the exception that `make` raises, if it raises one."""
    try:
        make(fields)
    except Exception as error:  # transformers raises any type
        return first_line(error)
    return None


def _form(name: str, default: object) -> str | None:
    """Return the form that the value of a field must have, None for any."""
    forms = [form for pattern, form in _BY_NAME if pattern.search(name)]
    forms += [_SIZE] if default == "auto" else []
    forms += [form for kind, form in _BY_DEFAULT if isinstance(default, kind)]
    if not forms and default is None and _OPTIONAL.search(name):
        return _NUMBER
    return forms[0] if forms else None


def _is_number(value: Any) -> bool:  # noqa: ANN401  # of a JSON file
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) <= _HIGHEST


def _is_flag(value: object) -> bool:
    return isinstance(value, bool) or (type(value) is int and value in (0, 1))


def _are_ids(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(type(item) is int and -1 <= item < _MAX_ID for item in items)


_FORMS: dict[str, Callable[[Any], bool]] = {
    _IDS: _are_ids,
    _ACTIVATION: lambda value: isinstance(value, str) and value in ACT2FN,
    _FLAG: _is_flag,
    _NUMBER: _is_number,
    _SIZE: lambda value: value == "auto" or _is_number(value),
    _TEXT: lambda value: isinstance(value, str),
    _OBJECT: lambda value: isinstance(value, dict),
}
