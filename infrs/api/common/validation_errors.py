"""Conversion of pydantic's errors to OpenAI's: a code, a `param` path and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from itertools import islice

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infrs.errors import RequestError, UnsupportedParameterError
from infrs.spelling import nearest

Place = Sequence[int | str]  # a place in a body, in pydantic's form: `("messages", 0, "role")`

_LONGEST_MESSAGE = 500
_LONGEST_VALUE = 64
_MOST_COMPARED = 16  # unknown fields, to bound the time of comparing names
_MEDIA = ("image_url", "input_audio", "file", "refusal", "video_url", "audio_url", "input_image", "input_file")

_LENGTH = ("max_tokens", "max_output_tokens")

# Field names of llama.cpp's server, Ollama and transformers. Advice names the first field that the endpoint has.
INSTEAD: dict[str, tuple[str, ...]] = {
    "n_predict": _LENGTH,
    "num_predict": _LENGTH,
    "max_new_tokens": _LENGTH,
    "n_probs": ("top_logprobs", "logprobs"),
    "stop_sequences": ("stop",),
    "format": ("response_format", "text", "output_config"),
    "think": ("chat_template_kwargs", "reasoning", "thinking"),
}
NEEDLESS = {
    "num_ctx": "the context is as long as engine.max_model_len says",
    "n_ctx": "the context is as long as engine.max_model_len says",
    "options": "send its entries as fields of their own, next to `model`",
    "extra_body": "send its entries as fields of their own, next to `model`",
}

# pydantic's error type -> OpenAI's code. Other types that end in _type or _parsing are invalid_type.
_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "string_too_long": "string_above_max_length",
    "string_too_short": "invalid_value",
    "too_long": "array_above_max_length",
    "too_short": "empty_array",
    "content_type": "invalid_type",
}
_WORDS = {
    "list_type": "expected an array",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "string_type": "expected a string",
    "int_type": "expected an integer",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "dict_type": "expected an object",
}
_BOUNDS = {
    "greater_than": "below_min_value",
    "greater_than_equal": "below_min_value",
    "less_than": "above_max_value",
    "less_than_equal": "above_max_value",
}


def request_error(error: ValidationError, payload: object, known: Callable[[Place], list[str]]) -> RequestError:
    """Return the RequestError of a body. known: returns the fields that the object at a place may have."""
    details = _most_useful(error.errors(include_url=False), known)
    where_at_fault = _path(details["loc"], payload, missing=details["type"] == "missing") if details["loc"] else None
    param = details.get("ctx", {}).get("param", where_at_fault)
    if details["type"] == "part":
        param = ".".join(filter(None, (param, details["ctx"]["field"])))
    where = param or "the body"
    value = details["input"]
    match details["type"]:
        case "missing":
            message = f"{where} is required"
        case "extra_forbidden":
            message = f"{where} is not a parameter of this endpoint; {_to_do(details, known)}"
        case "unsupported_parameter":
            message = f"{where}: {_shown(value)} is {details['msg']}; remove it"
            return UnsupportedParameterError(message[:_LONGEST_MESSAGE], param=param)
        case "literal_error" if param is not None and param.endswith(".type") and value in _MEDIA:
            return RequestError(f"{where}: only text content is supported", param=param, code="unsupported_content")
        case "union_tag_not_found":
            return RequestError(f"{where}: expected an object", param=param, code="invalid_type")
        case "union_tag_invalid":
            tag, expected = details["ctx"]["tag"], details["ctx"]["expected_tags"]
            message = f"{where}.type: {_shown(tag)} is not supported; expected one of {expected}"
            return UnsupportedParameterError(message[:_LONGEST_MESSAGE], param=f"{where}.type")
        case "inconsistent" | "part":
            message = f"{where}: {details['msg']}"
        case "too_short" | "too_long":
            message = f"{where}: {_length(details)}"
        case _:
            message = f"{where}: {_shown(value)} is not allowed: {_words(details)}"
    return RequestError(message[:_LONGEST_MESSAGE], param=param, code=_code(details))


def _most_useful(faults: list[ErrorDetails], known: Callable[[Place], list[str]]) -> ErrorDetails:
    """Return the first fault, or the misspelling that explains a missing field."""
    first = faults[0]
    if first["type"] != "missing":
        return first
    *place, missing = first["loc"]
    unknown = (fault for fault in faults if fault["type"] == "extra_forbidden" and [*fault["loc"][:-1]] == place)
    return next((fault for fault in islice(unknown, _MOST_COMPARED) if _meant(fault, known) == missing), first)


def _to_do(unknown: ErrorDetails, known: Callable[[Place], list[str]]) -> str:
    """Return what to do about an unknown field."""
    *place, name = unknown["loc"]
    if not place and (found := _advice(str(name), known(place))):
        return found
    meant = _meant(unknown, known)
    return f"did you mean {meant}?" if meant else "remove it"


def _advice(word: str, known: Container[str]) -> str | None:
    """Return what to do about a field of llama.cpp, Ollama or transformers. known: the fields of the endpoint."""
    instead = next((name for name in INSTEAD.get(word, ()) if name in known), None)
    if instead is not None:
        return f"use {instead}"
    generates = "temperature" in known  # the reasons concern generation
    return f"remove it: {NEEDLESS[word]}" if word in NEEDLESS and generates else None


def _meant(unknown: ErrorDetails, known: Callable[[Place], list[str]]) -> str | None:
    *place, name = unknown["loc"]
    return nearest(str(name), known(place))


def _code(details: ErrorDetails) -> str:
    kind, value = details["type"], details["input"]
    if kind in ("inconsistent", "part"):
        return str(details["ctx"]["code"])
    if kind in _BOUNDS:
        bound = next(iter(details["ctx"].values()))
        return f"{'integer' if isinstance(bound, int) else 'decimal'}_{_BOUNDS[kind]}"
    if kind.startswith("int_") and isinstance(value, float) and abs(value) >= 1 << 63:  # JSON's big integers
        return "integer_above_max_value" if value > 0 else "integer_below_min_value"
    default = "invalid_type" if kind.endswith(("_type", "_parsing")) or kind.startswith("int_") else "invalid_value"
    return _CODES.get(kind, default)


def _path(loc: Place, payload: object, *, missing: bool) -> str:
    """Return `("messages", 0, "role")` as `messages[0].role`, as far as the payload has such a place.

    Other parts are tags of unions, which the path leaves out, but for the last part of a `missing` field.
    """
    path = ""
    for position, part in enumerate(loc, 1):
        if isinstance(part, int):
            if not isinstance(payload, list):
                break
            path += f"[{part}]"
            payload = payload[part]
        else:
            if not isinstance(payload, dict):
                break
            if part not in payload and not (missing and position == len(loc)):
                continue
            path += "." * bool(path) + ascii(part)[1:-1]  # one line, whatever an unknown key holds
            payload = payload.get(part)
    return path[: _LONGEST_VALUE * 2]


def _shown(value: object) -> str:
    """Return the start of a value's text. A value may have megabytes."""
    if isinstance(value, bool | None):
        return {None: "null", True: "true", False: "false"}[value]
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > _LONGEST_VALUE:
            return text[: _LONGEST_VALUE - 3] + "..."
    return text


def _pieces(value: object) -> Iterator[str]:
    """Yield the text of a value piece by piece."""
    if isinstance(value, str):
        yield ascii(value[: _LONGEST_VALUE + 1])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield ", " if index else "["
            yield from _pieces(item)
        yield "]" if value else "[]"
    elif isinstance(value, dict):
        for index, (name, item) in enumerate(value.items()):
            yield f"{', ' if index else '{'}{name[: _LONGEST_VALUE + 1]!a}: "
            yield from _pieces(item)
        yield "}" if value else "{}"
    else:
        yield ascii(value)


def _length(details: ErrorDetails) -> str:
    context = details["ctx"]
    bound = f"at least {context['min_length']}" if "min_length" in context else f"at most {context['max_length']}"
    return f"expected {bound}, not {context['actual_length']}"


def _words(details: ErrorDetails) -> str:
    message = _WORDS.get(details["type"], details["msg"])
    return message[:1].lower() + message[1:]
