"""Measure how one client's request delays the others: the gaps of a victim stream during each attack.

    python -m benchmarks.engine.attackers BUNDLE [--against CHECKOUT] [--rounds 3] [--only NAME]

Serves the bundle with this checkout and, in turns, with another one. Each attack is one HTTP request. The table has a
row for each attack: the longest gap between two tokens of the victim, the slowest answer of /health, and how far the
server's peak memory rises above its memory at rest.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import orjson

from benchmarks.lib.checkouts import serving
from benchmarks.lib.results import ROOT
from infrs.bench.client import Asking, Target, ask, find_model
from infrs.bench.transport import Endpoint, ServerError, get_json

BODY_BYTES = 4_000_000
VICTIM_TOKENS = 400
LEAD_SECONDS = 0.4  # the victim streams for this long before the attack
VICTIM = [{"role": "user", "content": "Write a long story about a lighthouse."}]


@dataclass(frozen=True, slots=True)
class Attack:
    """One request: its path below the server's root, and its body for the id of the served model."""

    name: str
    path: str
    body: Callable[[str], object]


def chat(model: str, content: object, **fields: object) -> object:
    """Make the body of a chat completion with one message."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


ATTACKS = (
    Attack(
        "4 MB of empty message parts",
        "/v1/chat/completions",
        lambda model: {"model": model, "messages": [{"role": "user", "content": [{}] * 1024}] * 1340},
    ),
    Attack("4 MB of invalid token ids", "/detokenize", lambda model: {"tokens": ["x"] * 1_000_000}),
    Attack("4 MB of digits to /tokenize", "/tokenize", lambda model: {"content": "7" * BODY_BYTES}),
    Attack("4 MB of digits in a message", "/v1/chat/completions", lambda model: chat(model, "7" * BODY_BYTES)),
    Attack(
        "4 MB of digits to count_tokens",
        "/v1/messages/count_tokens",
        lambda model: chat(model, "7" * BODY_BYTES),
    ),
    Attack("1 M token ids to /detokenize", "/detokenize", lambda model: {"tokens": [7] * (1 << 20)}),
    Attack(
        "min_p 0.001 at temperature 2",
        "/v1/chat/completions",
        lambda model: chat(model, "Continue.", temperature=2, min_p=0.001, max_tokens=200),
    ),
    Attack(
        "top_p 0.999 at temperature 2",
        "/v1/chat/completions",
        lambda model: chat(model, "Continue.", temperature=2, top_p=0.999, max_tokens=200),
    ),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the others saw during one attack. Seconds; bytes."""

    longest_gap: float
    slowest_health: float
    risen: int
    status: str


def memory(pid: int, name: str) -> int:
    """Read a figure of /proc/PID/status in bytes: VmRSS (now) or VmHWM (peak)."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) << 10


def reset_peak(pid: int) -> int:
    """Reset a process's peak memory to what it has now, and return that in bytes (proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return memory(pid, "VmRSS")


async def send(endpoint: Endpoint, attack: Attack, body: bytes) -> str:
    """POST the attack and return the status line of its answer."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    head = f"POST {attack.path} HTTP/1.1\r\nHost: {endpoint.host}\r\nContent-Type: application/json\r\n"
    try:
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.read(-1)
    except OSError as error:
        return str(error)
    finally:
        writer.close()
    return " ".join(answer.split(b"\r\n", 1)[0].decode().split()[1:2]) or "no answer"


async def watch_health(endpoint: Endpoint, until: asyncio.Event) -> float:
    """Ask /health every 20 ms and return the slowest answer, in seconds."""
    slowest = 0.0
    health = Endpoint(endpoint.host, endpoint.port, prefix="")
    while not until.is_set():
        begin = time.perf_counter()
        await get_json(health, "/health")
        slowest = max(slowest, time.perf_counter() - begin)
        await asyncio.sleep(0.02)
    return slowest


async def measure(endpoint: Endpoint, pid: int, attack: Attack | None) -> Outcome:
    """Run the victim with or without an attack."""
    model = await find_model(endpoint)
    body = orjson.dumps(attack.body(model)) if attack else b""
    rest = reset_peak(pid)
    target = Target("", endpoint, model, {"temperature": 1, "seed": 1, "ignore_eos": True})
    over = asyncio.Event()
    health = asyncio.create_task(watch_health(endpoint, over))
    victim = asyncio.create_task(ask(target, VICTIM, Asking(max_tokens=VICTIM_TOKENS), origin=time.perf_counter()))
    await asyncio.sleep(LEAD_SECONDS)
    status = await send(endpoint, attack, body) if attack else "-"
    sample = await victim
    over.set()
    if sample.error is not None:
        raise ServerError(sample.error)
    return Outcome(max(sample.gaps), await health, memory(pid, "VmHWM") - rest, status)


def row(name: str, outcomes: list[list[Outcome]]) -> str:
    """Format the medians of each version as a row of the table, the versions separated by arrows."""

    def medians(show: Callable[[float], str], figure: Callable[[Outcome], float]) -> str:
        return " -> ".join(show(statistics.median(map(figure, version))) for version in outcomes)

    cells = (
        name,
        medians("{:.0f}".format, lambda outcome: outcome.longest_gap * 1e3),
        medians("{:.0f}".format, lambda outcome: outcome.slowest_health * 1e3),
        medians("{:.0f}".format, lambda outcome: outcome.risen / 2**20),
        " -> ".join(version[-1].status for version in outcomes),
    )
    return f"| {' | '.join(cells)} |"


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Another checkout, measured first.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", default="", help="Attacks with this text in their name.")
def main(bundle: Path, against: Path | None, rounds: int, only: str) -> None:
    """Print the table."""
    versions = [checkout.resolve() for checkout in (against, ROOT) if checkout is not None]
    click.echo("| attack | longest gap, ms | slowest /health, ms | memory above rest, MiB | status |")
    click.echo("| --- | --: | --: | --: | --- |")
    for attack in (None, *(attack for attack in ATTACKS if only in attack.name)):
        outcomes: list[list[Outcome]] = [[] for _ in versions]
        for _ in range(rounds):
            for checkout, results in zip(versions, outcomes, strict=True):
                with serving(checkout, bundle.resolve()) as (url, pid):
                    endpoint = Endpoint.parse(url)
                    asyncio.run(measure(endpoint, pid, None))  # warm
                    results.append(asyncio.run(measure(endpoint, pid, attack)))
        click.echo(row(attack.name if attack else "none", outcomes))


if __name__ == "__main__":
    main()
