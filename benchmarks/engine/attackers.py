"""Measure how one client's requests delay the others.

    python -m benchmarks.engine.attackers BUNDLE [--against CHECKOUT] [--seconds 8] [--only NAME]

Each attack repeats for some seconds, from a client with a key of its own, and again on a server without keys. Meanwhile
the victim, with another key, streams and sends short requests. The table has a row for each attack, next to the goals:

- time between tokens of the victim's stream: p99 at most 3 times that of the quiet server
- time to first token of the victim's short requests: p99 at most 250 ms longer
- /health: p99 at most 50 ms
- peak memory: at most 256 MiB above rest

A quiet phase precedes each attack, on the same server. The attacker is a process of its own, so that its work does not
delay the victim's clock; it still takes time of the machine's cores. With `--against`, the figures of another checkout
come first.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import click

from benchmarks.engine.attacks import ATTACKS, Attack, Attacker
from benchmarks.lib.checkouts import serving
from benchmarks.lib.results import ROOT
from infrs.bench.client import Asking, Target, ask, find_model
from infrs.bench.transport import Endpoint, ServerError, get_json

KEYS = ("victim-key-0123456789", "attacker-key-0123456789")
QUIET_SECONDS = 3.0
LEAD_SECONDS = 0.4  # the victim streams for this long before the attack
PATIENCE = 30.0  # seconds for an answer to the victim
STORY = [{"role": "user", "content": "Write a long story about a lighthouse."}]
QUESTION = [{"role": "user", "content": "How many days are in a week?"}]
GOALS = ("3", "+250", "50", "256")


def p99(seconds: list[float]) -> float:
    """Return the 99th percentile; infinite for an empty list."""
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1] if seconds else math.inf


@dataclass
class Phase:
    """What the victim saw. Seconds; infinite for a request that failed or a token that did not come."""

    gaps: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    healths: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The four figures of an attack: gap as a multiple of quiet, added ms to the first token, ms, MiB."""

    gap: float
    first: float
    health: float
    risen: float
    statuses: str


def memory(pid: int, name: str) -> int:
    """Read a figure of /proc/PID/status in bytes: VmRSS (now) or VmHWM (peak)."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) << 10


def reset_peak(pid: int) -> int:
    """Reset a process's peak memory to what it has now, and return that in bytes (proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return memory(pid, "VmRSS")


async def observe(target: Target, seconds: float) -> Phase:
    """Be the victim for some seconds: stream, send short requests, ask /health."""
    phase, begin = Phase(), time.perf_counter()
    health = replace(target.endpoint, prefix="")

    async def repeat(step: Callable[[], Awaitable[None]], pause: float) -> None:
        while time.perf_counter() - begin < seconds:
            await step()
            await asyncio.sleep(pause)

    async def stream() -> None:
        sample = await ask(target, STORY, Asking(max_tokens=200, timeout=PATIENCE), origin=time.perf_counter())
        phase.gaps += sample.gaps if sample.error is None else [*sample.gaps, math.inf]

    async def short() -> None:
        sample = await ask(target, QUESTION, Asking(max_tokens=2, timeout=PATIENCE), origin=time.perf_counter())
        phase.firsts.append(sample.first if sample.error is None else math.inf)

    async def check() -> None:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                await get_json(health, "/health")
            phase.healths.append(time.perf_counter() - began)
        except (ServerError, TimeoutError):
            phase.healths.append(math.inf)

    await asyncio.gather(repeat(stream, 0), repeat(short, 0.1), repeat(check, 0.02))
    return phase


def attack_until_message(name: str, attacker: Attacker, pipe: Connection) -> None:
    """Run an attack between two messages of a pipe, in a process of its own. Send how often each status came back."""
    attack = next(attack for attack in ATTACKS if attack.name == name)
    run = attack.prepare(attacker)
    pipe.send("ready")
    pipe.recv()

    async def until_message() -> None:
        attacking = asyncio.create_task(run(attacker))
        await asyncio.to_thread(pipe.recv)
        attacking.cancel()
        await asyncio.wait([attacking])

    asyncio.run(until_message())
    pipe.send(attacker.statuses)


class AttackingProcess:
    """An attack that is ready to begin."""

    def __init__(self, attack: Attack, attacker: Attacker) -> None:
        self._pipe, pipe = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=attack_until_message, args=(attack.name, attacker, pipe), daemon=True
        )
        self._process.start()
        assert self._pipe.recv() == "ready"

    def begin(self) -> None:
        """Begin the attack."""
        self._pipe.send("begin")

    def end(self) -> Counter[str]:
        """End the attack and return how often each HTTP status came back."""
        self._pipe.send("end")
        statuses: Counter[str] = self._pipe.recv()
        self._process.join()
        return statuses


async def measure(url: str, pid: int, attack: Attack, seconds: float, *, with_keys: bool) -> Outcome:
    """Measure an attack on a running server."""
    of_victim, of_attacker = (Endpoint.parse(url, key if with_keys else None) for key in KEYS)
    model = await find_model(of_victim)
    target = Target("", of_victim, model, {"temperature": 1, "seed": 1, "ignore_eos": True})
    attacking = AttackingProcess(attack, Attacker(of_attacker, model))
    await observe(target, 1.0)  # warm
    quiet = await observe(target, QUIET_SECONDS)
    rest = reset_peak(pid)
    watching = asyncio.create_task(observe(target, LEAD_SECONDS + seconds))
    await asyncio.sleep(LEAD_SECONDS)
    attacking.begin()
    seen = await watching
    statuses = attacking.end()
    return Outcome(
        gap=p99(seen.gaps) / p99(quiet.gaps),
        first=(p99(seen.firsts) - p99(quiet.firsts)) * 1e3,
        health=p99(seen.healths) * 1e3,
        risen=(memory(pid, "VmHWM") - rest) / 2**20,
        statuses=", ".join(f"{count} times {status}" for status, count in statuses.most_common(3)) or "no answer",
    )


def row(name: str, key: str, outcomes: list[Outcome]) -> str:
    """Format a row of the table. The figures of versions are separated by arrows."""

    def cell(figure: Callable[[Outcome], float], form: str) -> str:
        values = map(figure, outcomes)
        return " → ".join(format(value, form) if math.isfinite(value) else "fails" for value in values)

    cells = (
        name,
        key,
        cell(lambda outcome: outcome.gap, ".1f"),
        cell(lambda outcome: outcome.first, "+.0f"),
        cell(lambda outcome: outcome.health, ".0f"),
        cell(lambda outcome: outcome.risen, ".0f"),
        " → ".join(outcome.statuses for outcome in outcomes),
    )
    return f"| {' | '.join(cells)} |"


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Another checkout, measured first.")
@click.option("--seconds", default=8.0, show_default=True, help="Duration of each attack.")
@click.option("--only", default="", help="Attacks with this text in their name.")
@click.option("--keys", type=click.Choice(["one", "none"]), help="Only this side of the table.")
def main(bundle: Path, against: Path | None, seconds: float, only: str, keys: str | None) -> None:
    """Print the table."""
    checkouts = [checkout.resolve() for checkout in (against, ROOT) if checkout is not None]
    click.echo(f"Load of the machine: {os.getloadavg()[0]:.1f}\n")
    click.echo(
        "| attack | key | time between tokens p99, of quiet | time to first token p99, ms | /health p99, ms "
        "| memory above rest, MiB | answers |\n| --- | --- | --: | --: | --: | --: | --- |\n"
        f"| goal | | {' | '.join(GOALS)} | |"
    )
    for attack in (attack for attack in ATTACKS if only in attack.name):
        for side in ("one", "none") if keys is None else (keys,):
            outcomes = []
            for checkout in checkouts:
                given = ",".join(KEYS) if side == "one" else ""
                with serving(checkout, bundle.resolve(), keys=given) as (url, pid):
                    outcomes.append(asyncio.run(measure(url, pid, attack, seconds, with_keys=side == "one")))
            click.echo(row(attack.name, side, outcomes))


if __name__ == "__main__":
    main()
