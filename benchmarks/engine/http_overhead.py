"""Measure the cost of HTTP: tokens/s through the server against the bare loop, on one bundle, in interleaved rounds.

    python -m benchmarks.engine.http_overhead BUNDLE [--rounds 7] [--tokens 128]

The bare loop is the runner with an arg-max: no scheduler, sampler, detokeniser, server or client. Both sides do the
same work: the same prompts prefilled, the same number of tokens decoded one by one. No prompt repeats, because the
server would reuse it, and the server drafts no tokens. The client shares the cores, as in production.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.config.settings import EngineSettings
from infrs.engine.build import load_engine
from infrs.engine.runners.runner import Runner, Segment
from infrs.text.chat.prompt import encode_chat
from infrs.text.chat.template_files import load_chat_format
from infrs.text.tokenizer import Tokenizer

# `infrs-serve` without draft tokens, for which there is no setting.
SERVE = """
from infrs.engine.speculation.drafter import Draft
from infrs.engine.speculation.lookup import PromptLookup
from infrs.cli.entry import serve

PromptLookup.propose = lambda self, text, limit: Draft()
serve()
"""
CHUNK = EngineSettings().prefill_chunk
TEXT = "The quick brown fox jumps over the lazy dog while seven engineers measure how long every single step takes. "


def conversation(number: int) -> list[dict[str, str]]:
    """About 80 tokens, which differ from the first on for each number."""
    text = (TEXT * 4)[number % 8 * 7 :][:330]
    return [{"role": "system", "content": f"{number} engineers."}, {"role": "user", "content": text}]


def bare_loop(runner: Runner, prompts: list[list[int]], num_tokens: int) -> float:
    """Tokens a second."""
    begin = time.perf_counter()
    count = len(prompts)
    span = max(count, runner.capabilities.min_rows)
    tokens = np.zeros(span, dtype=np.int64)
    positions = np.zeros(span, dtype=np.int64)
    for row, ids in enumerate(prompts):
        array = np.array(ids, dtype=np.int64)
        for start in range(0, len(ids), CHUNK):
            chunk = array[start : start + CHUNK]
            logits = runner.run([Segment(row, start, chunk, (len(chunk) - 1,) if start + CHUNK >= len(ids) else ())])
        tokens[row] = logits[0].argmax()
        positions[row] = len(ids)
    for _ in range(num_tokens - 1):
        segments = [
            Segment(row, int(positions[row]), tokens[row : row + 1] if row < count else (), (0,) * (row < count))
            for row in range(span)
        ]
        tokens[:count] = runner.run(segments).argmax(axis=1)
        positions[:count] += 1
    return count * num_tokens / (time.perf_counter() - begin)


async def one_stream(port: int, model: str, messages: list[dict[str, str]], num_tokens: int) -> int:
    """Stream one answer and return the number of its tokens as the server counts them."""
    body = json.dumps(
        {
            "model": model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": num_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        "Connection: close",
        f"Content-Length: {len(body)}",
    ]
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    answer = await reader.read(-1)
    writer.close()
    assert b"[DONE]" in answer, answer[:500]
    usage = next(line for line in reversed(answer.split(b"data: ")) if b'"usage":{' in line)
    return int(json.loads(usage.split(b"\n")[0])["usage"]["completion_tokens"])


async def through_http(port: int, model: str, texts: list[list[dict[str, str]]], num_tokens: int) -> float:
    """Tokens a second."""
    begin = time.perf_counter()
    total = sum(await asyncio.gather(*[one_stream(port, model, messages, num_tokens) for messages in texts]))
    assert total == len(texts) * num_tokens, total
    return total / (time.perf_counter() - begin)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=7, show_default=True)
@click.option("--tokens", default=128, show_default=True)
@click.option("--port", default=8123, show_default=True)
def main(bundle: Path, rounds: int, tokens: int, port: int) -> None:
    """Measure and print one line for one stream and one for eight."""
    manifest = chat_manifest(read_manifest(bundle))
    tokenizer = Tokenizer.load(bundle)
    chat_format = load_chat_format(bundle, "auto")
    settings = EngineSettings(max_model_len=1024)
    runner = load_engine(bundle, manifest, settings, tokenizer).runner
    serve = [sys.executable, "-c", SERVE, "--bundle", str(bundle), "--port", str(port), "--max-model-len", "1024"]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert " at http://" in server.stdout.readline()
        numbers = itertools.count(100)
        for count in (1, 8):
            bare, http = [], []
            for _ in range(rounds + 1):
                texts = [conversation(next(numbers)) for _ in range(count)]
                prompts = [encode_chat(tokenizer, chat_format, messages) for messages in texts]
                bare.append(bare_loop(runner, prompts, tokens))
                http.append(asyncio.run(through_http(port, manifest.source.model_id, texts, tokens)))
            ratios = sorted(h / b for h, b in zip(http[1:], bare[1:], strict=True))
            click.echo(
                f"{count} stream{'s' * (count > 1)}: bare {statistics.median(bare[1:]):.0f} tok/s, "
                f"HTTP {statistics.median(http[1:]):.0f} tok/s, "
                f"HTTP/bare median {statistics.median(ratios):.2f} (min {ratios[0]:.2f}, max {ratios[-1]:.2f})"
            )
    finally:
        server.terminate()
        server.wait(timeout=40)


if __name__ == "__main__":
    main()
