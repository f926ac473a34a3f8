"""What structured output costs: tokens a second with a mask at every step against without, in interleaved rounds.

    python -m benchmarks.engine.mask_cost BUNDLE [--rows 8] [--rounds 7] [--tokens 64]

The engine without the server. Both sides decode the same prompts for the same number of tokens, greedily; a side's
answers differ, their contexts are equally long.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import click

from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.config.settings import EngineSettings
from infrs.core import Grammar, Request, SamplingParams
from infrs.engine.build import load_engine
from infrs.engine.engine import Engine
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.text.constraint import Constraint
from infrs.text.tokenizer import Tokenizer

ITEM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"type": "integer"}, "tags": {"enum": ["red", "green"]}},
    "required": ["name", "size", "tags"],
    "additionalProperties": False,
}
CONSTRAINTS = {
    "plain": None,
    "json_schema": Constraint("json_schema", json.dumps({"type": "array", "items": ITEM, "minItems": 50}), "schema"),
    "regex": Constraint("regex", "([A-Z][a-z]{1,12}( [a-z]{1,12}){3,9}\\. ){80}", "regex"),
}


def decode(engine: Engine, prompts: list[list[int]], grammar: Grammar | None, num_tokens: int) -> float:
    """Tokens a second of decoding, once every prompt is computed."""
    for index, ids in enumerate(prompts):
        name = f"{index} {time.perf_counter()}"
        greedy = SamplingParams(temperature=0)
        engine.submit(Request(name, tuple(ids), num_tokens, greedy, ignore_eos=True, grammar=grammar))
    engine.step()
    while any(sequence.tokens.is_prefilling for sequence in engine.scheduler.running):
        engine.step()
    left = sum(num_tokens - len(sequence.tokens.output_ids) for sequence in engine.scheduler.running)
    begin = time.perf_counter()
    while not engine.scheduler.is_idle:
        engine.step()
    return left / (time.perf_counter() - begin)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--rows", default=8)
@click.option("--rounds", default=7)
@click.option("--tokens", default=64)
def main(bundle: Path, rows: int, rounds: int, tokens: int) -> None:
    """Print the ratio for each kind of constraint."""
    manifest, tokenizer = chat_manifest(read_manifest(bundle)), Tokenizer.load(bundle)
    engine = load_engine(bundle, manifest, EngineSettings(max_num_seqs=rows), tokenizer)
    compiler = GrammarCompiler(tokenizer, manifest.vocab_size, manifest.special_tokens.eos)
    grammars = {name: compiler.compile(constraint) if constraint else None for name, constraint in CONSTRAINTS.items()}
    texts = [f"List {index + 3} things that one finds in a garden shed:\n" for index in range(rows)]
    prompts = [tokenizer.encode(text, special=True) for text in texts]
    values: dict[str, list[float]] = {name: [] for name in grammars}
    for number in range(rounds + 1):
        for name, grammar in grammars.items():
            speed = decode(engine, prompts, grammar, tokens)
            if number:  # the first round warms up
                values[name].append(speed)
    for name, speeds in values.items():
        ratios = [speed / plain for speed, plain in zip(speeds, values["plain"], strict=True)]
        click.echo(
            f"{name:12} {statistics.median(speeds):6.0f} tok/s, {statistics.median(ratios):.2f}x of plain "
            f"({min(ratios):.2f}-{max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
