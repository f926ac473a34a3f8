"""Measure the wait of a short request of one API key next to 64 long ones of another, in milliseconds.

    INFRS_API_KEYS=busy-key,calm-key infrs-serve --demo --dtype int8 --max-queue 80 --port 8000 &
    python -m benchmarks.engine.fairness 8000 busy-key calm-key [--num-short 50] [--pause 0]

The short ones ask for 4 tokens, one after the other, alone and then next to the long ones, which ask for 100 to 900.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time

import click

NUM_LONG = 64
TIMEOUT = 600


@click.command()
@click.argument("port", type=int)
@click.argument("busy")
@click.argument("calm")
@click.option("--num-short", default=50, show_default=True)
@click.option("--pause", default=0.0, show_default=True, help="Seconds between two short requests.")
def main(port: int, busy: str, calm: str, num_short: int, pause: float) -> None:
    """Measure and print three lines."""

    def ask(key: str, words: str, max_tokens: int) -> None:
        body = {"model": model, "prompt": words, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
        fetch(port, "/v1/completions", key, body)

    def short(number: int) -> float:
        time.sleep(pause)
        started = time.monotonic()
        ask(calm, f"Question {number}: what is the sea made of?", 4)
        return 1000 * (time.monotonic() - started)

    def long(number: int) -> None:
        choose = random.Random(number)
        while True:
            ask(busy, f"Story {choose.random()} of the sea. " * 5, choose.randrange(100, 900))

    def gauge(name: str) -> float:
        lines = fetch(port, "/metrics", calm).decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))

    model = json.loads(fetch(port, "/v1/models", calm))["data"][0]["id"]
    show("alone", [short(number) for number in range(num_short)])
    for number in range(NUM_LONG):
        threading.Thread(target=long, args=(number,), daemon=True).start()
    while gauge("infrs_requests_waiting") < NUM_LONG // 2:
        time.sleep(0.1)
    time.sleep(2)
    before = gauge("infrs_preemptions_total")
    show(f"next to {NUM_LONG} long ones", [short(number) for number in range(num_short)])
    click.echo(f"{gauge('infrs_preemptions_total') - before:.0f} preemptions")


def show(name: str, times: list[float]) -> None:
    """Print percentiles."""
    half, most, nearly_all = (sorted(times)[len(times) * percent // 100] for percent in (50, 90, 99))
    click.echo(f"{name}: {half:.0f} ms (p50), {most:.0f} ms (p90), {nearly_all:.0f} ms (p99)")


def fetch(port: int, path: str, key: str, body: object = None) -> bytes:
    """The body of a response, which must be 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        return content
    finally:
        connection.close()


if __name__ == "__main__":
    main()
