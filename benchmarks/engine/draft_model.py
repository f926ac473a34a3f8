"""What a draft model gains: tokens a second with it against without, in interleaved rounds.

    python -m benchmarks.engine.draft_model BUNDLE DRAFT [--rounds 7] [--tokens 200] [--threads 0]

The engine without the server. Both sides answer the same requests, and their tokens are compared. "text" continues an
English text, "chat" answers a question, greedily and at temperature 1 with a seed for each round. The rounds of
"8 streams" have eight texts, at which a draft model does nothing.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click

from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.config.settings import EngineSettings
from infrs.core import Request, SamplingParams
from infrs.engine.build import load_engine
from infrs.engine.engine import Engine
from infrs.text.chat.prompt import encode_chat
from infrs.text.chat.template_files import load_chat_format
from infrs.text.tokenizer import Tokenizer

TEXTS = [
    "The history of the steam engine begins in the eighteenth century, when miners needed pumps that",
    "When the storm had passed, the fishermen walked down to the harbour and saw that",
    "A good soil for vegetables has three properties. The first is that",
    "The committee met on Tuesday to discuss the budget of the library. Its chairman said that",
    "In the north of the country the winters are long, and for this reason most houses",
    "The cell is the smallest unit of life. Each cell has a membrane, which",
    "To repair a bicycle tyre, first remove the wheel from the frame. Then",
    "Trade between the two cities grew after the new road was finished, because",
]
QUESTIONS = [
    "Explain how a rainbow forms, and why its colours are always in the same order.",
    "What should I see in Rome if I have only two days?",
    "Write a short letter to a landlord about a heater that does not work.",
]


def answer(engine: Engine, prompts: list[list[int]], sampling: SamplingParams, num_tokens: int) -> tuple[float, object]:
    """Return the tokens a second of decoding, and all tokens."""
    for number, ids in enumerate(prompts):
        engine.submit(Request(str(number), tuple(ids), num_tokens, sampling, ignore_eos=True))
    tokens: dict[str, list[int]] = {}
    began, count = 0.0, 0
    while not engine.scheduler.is_idle:
        decodes = not any(sequence.tokens.is_prefilling for sequence in engine.scheduler.running)
        deltas = engine.step()
        for delta in deltas:
            tokens.setdefault(delta.request_id, []).extend(delta.token_ids)
        if began:
            count += sum(len(delta.token_ids) for delta in deltas)
        elif not engine.scheduler.waiting and decodes:
            began = time.perf_counter()
    speed = count / (time.perf_counter() - began)
    engine.scheduler.clear()  # no prompt is cached for the next round
    if engine.draft_model is not None:
        engine.draft_model.release()
    return speed, tokens


def counts(engine: Engine) -> tuple[int, int, int]:
    """Return how many tokens the draft model proposed, how many of them were accepted, and the lookup's drafts."""
    lookup = engine.num_draft_tokens - engine.num_model_draft_tokens
    return engine.num_model_draft_tokens, engine.num_model_accepted_tokens, lookup


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("draft", type=click.Path(path_type=Path))
@click.option("--rounds", default=7)
@click.option("--tokens", default=200)
@click.option("--threads", default=0)
def main(bundle: Path, draft: Path, rounds: int, tokens: int, threads: int) -> None:
    """Print the gain for each kind of request."""
    manifest, tokenizer = chat_manifest(read_manifest(bundle)), Tokenizer.load(bundle)
    settings = EngineSettings(max_num_seqs=8, max_model_len=2048, threads=threads)
    plain = load_engine(bundle, manifest, settings, tokenizer)
    drafted = load_engine(bundle, manifest, settings, tokenizer, draft=(draft, chat_manifest(read_manifest(draft))))
    chat = load_chat_format(bundle, "auto")
    texts = [tokenizer.encode(text, special=True) for text in TEXTS]
    chats = [encode_chat(tokenizer, chat, [{"role": "user", "content": question}]) for question in QUESTIONS]
    for name, prompts, temperature in (
        ("text, greedy", texts, 0.0),
        ("chat, greedy", chats, 0.0),
        ("text, temperature 1", texts, 1.0),
        ("chat, temperature 1", chats, 1.0),
        ("8 streams, greedy", texts, 0.0),
    ):
        speeds: list[tuple[float, float]] = []
        before = counts(drafted)
        for number in range(rounds):
            sampling = SamplingParams(temperature=temperature, seed=number)
            asked = prompts if "streams" in name else [prompts[number % len(prompts)]]
            sides = [plain, drafted] if number % 2 else [drafted, plain]
            results = {side is drafted: answer(side, asked, sampling, tokens) for side in sides}
            if results[True][1] != results[False][1]:
                raise click.ClickException("the answers differ")
            speeds.append((results[False][0], results[True][0]))
        proposed, accepted, lookup = (after - old for after, old in zip(counts(drafted), before, strict=True))
        gains = sorted(after / old for old, after in speeds)
        medians = [statistics.median(side) for side in zip(*speeds, strict=True)]
        click.echo(
            f"{name:20} {medians[0]:4.0f} -> {medians[1]:4.0f} tok/s, {statistics.median(gains):.2f}x "
            f"({gains[0]:.2f}-{gains[-1]:.2f}), {accepted} of {proposed} draft tokens accepted "
            f"({accepted / max(proposed, 1):.0%}), {lookup} from the lookup"
        )


if __name__ == "__main__":
    main()
