"""Structured output: constraints compiled by llguidance into masks over the vocabulary."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import any_to_lark

from infrs.core import Grammar, GrammarState
from infrs.engine.sampling.json_schema import MAX_CHARS, MAX_PROPERTIES, parse_schema
from infrs.engine.sampling.mask_tokenizer import mask_tokenizer
from infrs.errors import EngineError, RequestError, UnsupportedParameterError
from infrs.text.constraint import Constraint
from infrs.text.rust import raises_panics
from infrs.text.schemas.guided import guided
from infrs.text.tokenizer import Tokenizer

MAX_COMPILED = 64
_MAX_REASON = 300


def _limits(max_items_in_row: int, step_max_items: int) -> LLParserLimits:
    """Return the limits of a grammar: it compiles within a second (half of llguidance's own limits) or is refused."""
    return LLParserLimits(
        max_items_in_row=max_items_in_row,
        step_max_items=step_max_items,
        initial_lexer_fuel=500_000,
        max_lexer_states=50_000,
        max_grammar_size=250_000,
    )


# A row of the parser has 4 items for each optional property that can come next. A step with 1,000 takes 60 ms.
_SCHEMA_LIMITS = _limits(4 * MAX_PROPERTIES + 200, 50_000)
# Grammars in use need less than 3,000 items a step. 12,000 take 40 ms; 50,000 take over a second where counted
# repetitions of what may be empty fill the rows.
_TEXT_LIMITS = _limits(2_000, 12_000)
_NUM_PROBED = 8  # tokens of a sample answer; their masks are computed before the grammar is accepted
_LIMIT_WORDS = re.compile(r"too (big|large|many|complex)|fuel|limit|\bmax is\b", re.IGNORECASE)
# What the compiler says, and what is meant.
_UNSUPPORTED = [
    (
        "oneOf constraints",
        'the keyword "oneOf" is not supported unless a "const" or "type" distinguishes the branches; use anyOf',
    ),
    (
        "look-around|lookarounds|backreferences",
        'the keyword "pattern" is not supported with look-ahead, look-behind, \\b or backreferences',
    ),
    ("not disjoint", 'the keyword "patternProperties" is not supported with patterns that match the same name'),
    (
        "min/maxProperties only",
        'the keywords "minProperties" and "maxProperties" are only supported if all listed properties are required',
    ),
    (
        "for (integer|float) range",
        'the keywords "minimum" and "maximum" are not supported with a range beyond 10**18',
    ),
]
_NAMES = {"json_schema": "the JSON schema", "calls": "a schema among the tools' parameters"}


class GrammarCompiler:
    """A compiler of constraints for one tokenizer, with a cache of the latest. Thread-safe.

    The constructor reads the vocabulary, which takes 0.15 s at 49,152 tokens and holds the GIL. So it runs when a model
    is loaded, not for the first request with a grammar.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_ids: Sequence[int]) -> None:
        """Create a compiler. `vocab_size`: the width of the logits."""
        self._eos_ids = list(eos_ids)
        self._backend = mask_tokenizer(tokenizer, vocab_size, self._eos_ids)
        self._lock = threading.Lock()
        self._compiled: OrderedDict[Constraint, _Compiled] = OrderedDict()

    def compile(self, constraint: Constraint) -> Grammar:
        """Compile a constraint, or return it from the cache.

        Raises RequestError with `constraint.param` and code invalid_schema, unsupported_schema, schema_too_complex,
        schema_recursive or invalid_grammar, with `constraint.or_else.param` if that begins like the constraint;
        UnsupportedParameterError if the tokenizer cannot be constrained.
        """
        with self._lock:
            if constraint in self._compiled:
                self._compiled.move_to_end(constraint)
                return self._compiled[constraint]
        if constraint.or_else is not None:
            self._check_distinct(replace(constraint, after="", or_else=None), constraint.or_else)
        compiled = _Compiled(self._matcher(constraint))
        with self._lock:
            self._compiled[constraint] = compiled
            while len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
        return compiled

    def _check_distinct(self, one: Constraint, other: Constraint) -> None:
        """Raise RequestError if a token can begin both: llguidance reads such a text as the first only."""
        first, second = (int.from_bytes(self.compile(each).start().allowed()) for each in (one, other))
        if first & second:
            raise RequestError(
                f"{other.param}: an answer of this form would begin like what {one.param} may write in this model's "
                f"format; set tool_choice to none or required, or leave {other.param} out",
                param=other.param,
            )

    @raises_panics
    def _matcher(self, constraint: Constraint) -> LLMatcher:
        grammar = _to_llguidance(constraint)
        limits = _SCHEMA_LIMITS if constraint.kind in _NAMES else _TEXT_LIMITS
        matcher = LLMatcher(self._tokenizer(constraint.param), grammar, log_level=0, limits=limits)
        if not matcher.is_error():
            matcher.compute_bitmask()  # here, not in the engine's thread, because the first mask takes the longest
        if matcher.is_error():
            raise _refusal(matcher.get_error(), constraint)
        if matcher.is_stopped():
            raise _refusal("no text satisfies it", constraint)
        if error := self._probe(matcher.deep_copy()):
            raise _refusal(error, constraint)
        return matcher

    def _probe(self, matcher: LLMatcher) -> str:
        """Accept some tokens, always the lowest allowed id. Return the error of the grammar's limits; empty if none."""
        for _ in range(_NUM_PROBED):
            mask = int.from_bytes(matcher.compute_bitmask(), "little")
            for eos_id in self._eos_ids:
                mask &= ~(1 << eos_id)
            if matcher.is_error() or not mask:
                break
            matcher.consume_token((mask & -mask).bit_length() - 1)
        return str(matcher.get_error())

    def _tokenizer(self, param: str) -> LLTokenizer:
        if self._backend is None:
            raise UnsupportedParameterError(
                f"this model's tokenizer does not support constrained output; leave {param} out", param=param
            )
        return self._backend


class _Compiled:
    """A compiled grammar at its start. Answers advance copies of it."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def start(self) -> GrammarState:
        return MatcherState(self._matcher.deep_copy())


class MatcherState:
    """The position of one answer in a grammar. At its end, only end-of-sequence tokens are allowed."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    @raises_panics
    def allowed(self) -> bytes:
        """Compute the mask, 10-30 us. Raises RequestError if the grammar has become too complex."""
        mask = self._matcher.compute_bitmask()
        self._check()
        return mask

    @raises_panics
    def accept(self, token_id: int) -> None:
        """Accept a token. Raises the errors of `allowed`, and EngineError if the mask does not allow it."""
        self._matcher.consume_token(token_id)
        self._check()

    def copy(self) -> MatcherState:
        """Return a state at the same place that changes independently."""
        return MatcherState(self._matcher.deep_copy())

    def _check(self) -> None:
        if not self._matcher.is_error():
            return
        reason = _first_line(self._matcher.get_error())
        if _LIMIT_WORDS.search(reason):
            raise RequestError(
                "the answer's grammar or JSON schema became too complex to follow; simplify it",
                code="schema_too_complex",
            )
        raise EngineError(f"the answer's grammar could not be followed ({reason}); simplify it")


def _to_llguidance(constraint: Constraint) -> str:
    """Return a constraint as a grammar for llguidance. Raises RequestError."""
    if constraint.frame:
        return f"{constraint.frame}answer: {_body(constraint)}\n"
    if constraint.kind in ("grammar", "calls") and not constraint.after and constraint.or_else is None:
        return _lark_of(constraint)
    answer = _body(constraint)
    if constraint.or_else is not None:
        answer = f"{answer} | {_body(constraint.or_else)}"
    if constraint.after:
        is_token = constraint.after.startswith("<")  # which no other text matches
        free = f"free: /(?s:.*)/ {constraint.after}" if is_token else f"free[lazy]: /(?s:.*)/ {constraint.after}"
        return f"start: free body\n{free}\nbody: /[ \\n]{{0,4}}/ answer\nanswer: {answer}\n"
    return f"start: {answer}\n"


def _body(constraint: Constraint) -> str:
    """Return the right side of a Lark rule. Raises RequestError."""
    param, text = constraint.param, constraint.text
    match constraint.kind:
        case "json_schema":
            schema = parse_schema(text, param)
            return "%json " + json.dumps(guided(schema, whitespace=constraint.whitespace))
        case "grammar" | "calls":
            return f"%lark {{\n{_lark_of(constraint)}\n}}"
        case "regex":
            body = f"/{_slashed(text)}/" if text else ""
        case "choice":
            body = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in dict.fromkeys(json.loads(text)))
    _check_length(constraint)
    if not body:
        raise RequestError("it allows nothing; name at least one text", param=param, code="invalid_grammar")
    return body


def _lark_of(constraint: Constraint) -> str:
    _check_length(constraint)
    return constraint.text if constraint.kind == "calls" else _to_lark(constraint.text, constraint.param)


def _check_length(constraint: Constraint) -> None:
    if len(constraint.text) > MAX_CHARS:
        raise RequestError(
            f"the grammar is longer than {MAX_CHARS} characters", param=constraint.param, code="invalid_grammar"
        )


def _to_lark(text: str, param: str) -> str:
    try:
        return str(any_to_lark(_unescaped(text) if "::=" in text else text))
    except Exception as error:  # its own types, RecursionError and more
        reason = _first_line(str(error))
        raise RequestError(f"the grammar cannot be read: {reason}", param=param, code="invalid_grammar") from None


def _unescaped(gbnf: str) -> str:
    r"""Replace each `\xXX`, `\uXXXX` and `\UXXXXXXXX` of GBNF by its character, or in ASCII by `\xXX`."""

    def character(found: re.Match[str]) -> str:
        code = int(found[1] or found[2] or found[3] or "-1", 16)
        if not 0 <= code <= sys.maxunicode or 0xD800 <= code < 0xE000:  # another escape, or no character
            return found[0]
        return chr(code) if code > 0x7F else f"\\x{code:02x}"

    return re.sub(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|.)", character, gbnf, flags=re.DOTALL)


def _slashed(regex: str) -> str:
    """Escape slashes and line breaks of a regex, because they would end a regex between slashes."""
    return re.sub(r"\\.|/|\n", lambda found: {"/": r"\/", "\n": r"\n"}.get(found[0], found[0]), regex, flags=re.DOTALL)


def _refusal(error: str, constraint: Constraint) -> RequestError:
    """Return the error for a compiler's message, with the keyword if it names one."""
    reason = _first_line(error)
    code = "invalid_schema" if constraint.kind in _NAMES else "invalid_grammar"
    if found := re.search(r"Unimplemented keys: \[(.*?)\]", error):
        reason, code = f"the keyword {found[1]} is not supported", "unsupported_schema"
    elif found := re.search(r"Unknown format: (\S+)", error):
        reason, code = f'the keyword "format" is not supported with {found[1]!a}', "unsupported_schema"
    elif constraint.kind in _NAMES and (unsupported := _unsupported(error)):
        reason, code = unsupported, "unsupported_schema"
    elif error.startswith("NoExtension"):
        reason = "no text satisfies it"
    elif _LIMIT_WORDS.search(reason):
        reason, code = "it is too complex; simplify it", "schema_too_complex"
    what = _NAMES.get(constraint.kind, f"the {constraint.kind}")
    return RequestError(f"{what} cannot be used: {reason}", param=constraint.param, code=code)


def _unsupported(error: str) -> str | None:
    """Return the keyword that a compiler's message is about, in a sentence, if it is a limit of the compiler."""
    return next((sentence for words, sentence in _UNSUPPORTED if re.search(words, error)), None)


def _first_line(error: str) -> str:
    """Return the first line of an error, or, of a regex parser's message, the line that starts with `error:`."""
    lines = [line for line in error.splitlines() if line.strip()] or ["no reason given"]
    line = next((line for line in lines if line.startswith("error: ")), lines[0])
    bare = re.sub(r"^(at \d+\(\d+\): |failed to compile JSON schema: |error: )+", "", " ".join(line.split()))
    return ascii(bare)[1:-1][:_MAX_REASON]
