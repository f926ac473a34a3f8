"""A server with a model that repeats the prompt after "say:", or follows its grammar.

A token is three characters, or as many as the request's seed, modulo 7, and one more.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from fake_server import MANIFEST, FakeEngine, byte_tokenizer, main, served, usage

from infrs.core import Delta, FinishReason, Grammar, GrammarState, Request
from infrs.models.loaded import LoadedModel
from infrs.text.reasoning.tags import THINK
from infrs.text.tools.formats import FORMATS

_LIKELY = b'"}]' * 20 + b"abcdefghijklmnopqrstuvwxyz0123456789 ,:" * 2
_LONGEST = 12_000  # bytes: the 16 calls of the longest tags take half of it


class ScriptedEngine(FakeEngine):
    """A fake engine that makes the text of a request at its first token."""

    text = ""

    def next_delta(self, request: Request, count: int, prompt: str) -> Delta:
        if count == 0:
            grammar = request.grammar
            self.text = prompt.rpartition("say:")[2] if grammar is None else follow(grammar, len(prompt))
        text = self.text
        seed = request.sampling.seed
        width = 3 if seed is None else seed % 7 + 1
        start, end = width * count, width * (count + 1)
        ended = end >= len(text)
        reason = FinishReason.STOP if ended else FinishReason.LENGTH if count + 1 == request.max_tokens else None
        piece = text[start:end]
        return Delta(request.request_id, piece, tuple(piece.encode()), usage(request, count + 1), reason)


def follow(grammar: Grammar, seed: int) -> str:
    """Return a random text of a grammar over single bytes, to its end."""
    state, generator = grammar.start(), random.Random(seed)
    written = bytearray()
    if len(list_allowed(state)) > 150:  # free text, such as the rest of a reasoning block
        written += b"Hm.</think>"
        for byte in written:
            state.accept(byte)
    while 0 not in (allowed := list_allowed(state)):
        assert len(written) < _LONGEST, f"the grammar does not end: {written.decode()}"
        tempting = set(allowed) if ord("f") in allowed else {*allowed} - {ord("e")}  # no exponent: 1e999 is infinite
        likely = [byte for byte in _LIKELY if byte in tempting]
        written.append(generator.choice(likely or allowed))
        state.accept(written[-1])
    return written.decode()


def list_allowed(state: GrammarState) -> list[int]:
    bits = np.unpackbits(np.frombuffer(state.allowed(), dtype=np.uint8), bitorder="little")
    return [int(token_id) for token_id in np.flatnonzero(bits)]


def scripted_model(rows: int, max_queue: int) -> LoadedModel:
    engine = ScriptedEngine(1, rows + max_queue, 4096, 0.0)
    model = served(engine, byte_tokenizer([bytes([byte]) for byte in range(256)]), MANIFEST)
    return replace(model, reasoning=THINK, tool_format=FORMATS["hermes"])


if __name__ == "__main__":
    main(scripted_model)
