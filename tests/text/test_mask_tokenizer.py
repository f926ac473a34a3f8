"""The tokenizer for llguidance, compared with llguidance's own reading of the same `tokenizer.json`."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from llguidance import LLMatcher, LLTokenizer
from test_shortest import TEXTS
from text_tokenizers import KINDS

from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.engine.sampling.mask_tokenizer import mask_tokenizer
from infrs.errors import UnsupportedParameterError
from infrs.text.constraint import Constraint
from infrs.text.tokenizer import Tokenizer

EOS = (2, 1)
WIDER = 7  # the logits, than the vocabulary
SCHEMA = {
    "type": "object",
    "properties": {
        "literal": {"const": "hello, world"},
        "short": {"type": "string", "maxLength": 12},
        "long": {"type": "string", "minLength": 20},
        "number": {"type": "number"},
    },
    "required": ["literal", "short", "long", "number"],
}
GRAMMARS = {
    "schema": json.dumps({"grammars": [{"json_schema": SCHEMA}]}),
    "lark": json.dumps({"grammars": [{"lark_grammar": 'start: "hello" /[a-z ]+/ | /(\\\\d+ ?)+/'}]}),
}
READ = [kind for kind in KINDS if kind not in ("word-piece", "metaspace", "suffixed", "undecoded")]


@cache
def pair(kind: str) -> tuple[LLTokenizer, LLTokenizer]:
    definition = KINDS[kind]()
    tokenizer = Tokenizer(definition)
    width = tokenizer.vocab_size + WIDER
    own = mask_tokenizer(tokenizer, width, EOS)
    assert own is not None
    return own, LLTokenizer(definition, n_vocab=width, eos_token=list(EOS))


@pytest.mark.parametrize("kind", READ)
def test_tokens_have_the_bytes_that_llguidance_reads(kind: str) -> None:
    own, reference = pair(kind)
    assert own.vocab_size == reference.vocab_size
    for number in range(own.vocab_size):
        assert own.decode_bytes([number]) == reference.decode_bytes([number])
        assert own.is_special_token(number) == reference.is_special_token(number)


@pytest.mark.parametrize("kind", READ)
def test_fragments_have_the_tokens_that_llguidance_finds(kind: str) -> None:
    own, reference = pair(kind)

    @settings(max_examples=100, deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        assert own.tokenize_str(text) == reference.tokenize_str(text)

    check()


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("kind", READ)
def test_masks_equal_llguidances(kind: str, grammar: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        own, reference = (LLMatcher(tokenizer, GRAMMARS[grammar]) for tokenizer in pair(kind))
        for _ in range(60):
            mask = own.compute_bitmask()
            assert mask == reference.compute_bitmask()
            allowed = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little"))
            if own.is_stopped() or not allowed.size:
                break
            chosen = int(rng.choice(allowed))
            assert own.consume_token(chosen) == reference.consume_token(chosen)
        assert not own.get_error()


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - set(READ)))
def test_a_tokenizer_without_certain_bytes_is_not_read(kind: str) -> None:
    assert mask_tokenizer(Tokenizer(KINDS[kind]()), 1000, EOS) is None


@pytest.mark.parametrize("eos_ids", [(), (1000,), (-1,)])
def test_an_end_token_out_of_range_is_not_read(eos_ids: tuple[int, ...]) -> None:
    assert mask_tokenizer(Tokenizer(KINDS["byte-level"]()), 1000, eos_ids) is None


def test_a_tokenizer_without_grammar_support_is_refused() -> None:
    compiler = GrammarCompiler(Tokenizer(KINDS["word-piece"]()), 1000, (0,))
    with pytest.raises(UnsupportedParameterError, match="tokenizer") as caught:
        compiler.compile(Constraint("choice", '["a"]', "guided_choice"))
    assert caught.value.param == "guided_choice"
