"""What a decode step costs outside ONNX Runtime: the engine's own Python, in milliseconds.

    python -m benchmarks.engine.step_cost BUNDLE [--rows 8] [--temperature 0] [--rounds 5] [--steps 100]

Rows decode texts of their own. The median of each round is one measurement; what is printed is the rounds' median, and
the smallest and the largest of them. To compare two versions, run both in turns with PYTHONPATH on one of them.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path

import click

from infrs.bench.engine.timing import Stopwatch
from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.core import Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.runners.opening import new_runner, open_session
from infrs.engine.runners.runner import Rows
from infrs.text.detokenizer import Detokenizer
from infrs.text.tokenizer import Tokenizer

PROMPT = 64


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rows", default=8, show_default=True, type=click.IntRange(2))  # a lone row drafts tokens
@click.option("--temperature", default=0.0, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps", default=100, show_default=True)
def main(bundle: Path, rows: int, temperature: float, rounds: int, steps: int) -> None:
    """Measure and print one line."""
    manifest = chat_manifest(read_manifest(bundle))
    tokenizer = Tokenizer.load(bundle)
    session = open_session(bundle, manifest, threads=0)
    runner = new_runner(session, manifest, Rows(rows, PROMPT + (rounds + 1) * steps + rows))
    engine = Engine(runner, partial(Detokenizer, tokenizer), frozenset(), 256)
    for row in range(rows):
        text = f"The sea was calm, and no ship passed number {row}. " * 8
        prompt = tuple(tokenizer.encode(text, special=False)[:PROMPT])
        sampling = SamplingParams(temperature=temperature, seed=row)
        engine.submit(Request(str(row), prompt, max_tokens=runner.capacity, sampling=sampling, ignore_eos=True))
    while engine.scheduler.waiting or any(sequence.tokens.is_prefilling for sequence in engine.scheduler.running):
        engine.step()

    def outside() -> float:
        watch = Stopwatch()
        with watch.watching({"run": (session, "run_with_iobinding")}):
            begin = time.perf_counter()
            engine.step()
            return 1000 * (time.perf_counter() - begin - watch.seconds["run"])

    medians = [statistics.median(outside() for _ in range(steps)) for _ in range(rounds + 1)][1:]
    assert len(engine.scheduler.running) == rows, "the rows ended while they were measured"
    click.echo(
        f"{rows} rows: {statistics.median(medians):.3f} ms outside ONNX Runtime (rounds {min(medians):.3f} to "
        f"{max(medians):.3f}); {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC"
    )


if __name__ == "__main__":
    main()
