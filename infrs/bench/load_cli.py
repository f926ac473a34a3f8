"""`infrs-bench load`: parse its options, run the load, write the report."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from infrs.bench import plots, report
from infrs.bench.client import Asking, Sample, Target, find_model
from infrs.bench.run import Level, turns
from infrs.bench.run import load as run_load
from infrs.bench.stats import Figures, Limits, figures
from infrs.bench.transport import Endpoint, ServerError
from infrs.bench.workload import Conversation, Shape, read_prompts, synthetic, take


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. num_conversations: for each level, server and round; 0: four for each user of a closed loop."""

    levels: Sequence[Level]
    num_rounds: int
    num_conversations: int
    shape: Shape
    prompts: Sequence[Conversation]
    asking: Asking
    limits: Limits
    seed: int

    def conversations(self, level: Level, number: int) -> list[Conversation]:
        """Return the conversations of a round. They are the same for every server and new in each round."""
        count = self.num_conversations or 4 * (level.concurrency or 8)
        if self.prompts:
            return take(self.prompts, count, number * count)
        return synthetic(self.shape, count, f"{self.seed} {level.title} {number}")


async def measure(targets: Sequence[Target], plan: Plan, progress: Progress) -> list[report.LevelResult]:
    """Warm each server up with one request, then run every level, the servers taking turns round by round.

    Raises ServerError if a server does not answer the first request.
    """
    for target in targets:
        warm_up = synthetic(plan.shape, 1, f"{plan.seed} warm-up")
        first = await run_load(target, warm_up, Level(concurrency=1), plan.asking, seed=plan.seed)
        if first[0].error is not None:
            raise ServerError(f"{target.name} fails the first request: {first[0].error}")
    results = []
    for level in plan.levels:
        rounds: dict[str, list[Figures]] = defaultdict(list)
        last: dict[str, list[Sample]] = {}
        sizes = [sum(len(talk.turns) for talk in plan.conversations(level, n)) for n in range(plan.num_rounds)]
        task = progress.add_task(level.title, total=sum(sizes) * len(targets))
        for number, place in turns(plan.num_rounds, len(targets)):
            target = targets[place]
            progress.update(task, description=f"{level.title}, round {number + 1}, {target.name}")
            talks = plan.conversations(level, number)
            done = _advance(progress, task)
            last[target.name] = await run_load(
                target, talks, level, plan.asking, seed=f"{plan.seed} {number}", done=done
            )
            rounds[target.name].append(figures(last[target.name], plan.limits))
        results.append(report.LevelResult(level, rounds, last))
    return results


def _advance(progress: Progress, task: TaskID) -> Callable[[], None]:
    return lambda: progress.advance(task)


def _numbers(kind: type[int] | type[float]) -> Callable[..., tuple[Any, ...]]:
    def parse(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...]:
        try:
            numbers = tuple(kind(part) for part in value.split(",")) if value else ()
        except ValueError as error:
            raise click.BadParameter("give numbers separated by commas") from error
        if any(not 0 < item < 100_000 for item in numbers):
            raise click.BadParameter("give numbers above 0")
        return numbers

    return parse


def _fields(context: click.Context, parameter: click.Parameter, value: str) -> dict[str, Any]:
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(f"not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise click.BadParameter("give a JSON object")
    return fields


@click.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL [URL ...]")
@click.option("--name", "names", multiple=True, help="A server's name in the report; once for each URL.")
@click.option("--model", "models", multiple=True, help="Model id; once, or once for each URL. [default: first listed]")
@click.option("--api-key", envvar="OPENAI_API_KEY", help="Sent as a bearer token. [env: OPENAI_API_KEY]")
@click.option(
    "--concurrency",
    default="1,2,4,8",
    show_default=True,
    callback=_numbers(int),
    help="Closed loop: numbers of parallel users.",
)
@click.option("--rate", callback=_numbers(float), help="Open loop instead: numbers of requests per second (Poisson).")
@click.option("--conversations", default=0, help="For each level, server and round. [default: 4 for each user]")
@click.option("--rounds", default=3, show_default=True, help="Rounds; the servers take turns.")
@click.option("--input-words", default=100, show_default=True, help="Words of a synthetic turn; about as many tokens.")
@click.option("--prefix-words", default=0, help="Words of a system message that all conversations of a round share.")
@click.option("--turns", default=1, show_default=True, help="Turns of a synthetic conversation.")
@click.option("--prompts", type=click.Path(path_type=Path), help="A prompt set instead: text or JSON, one a line.")
@click.option("--max-tokens", default=64, show_default=True, help="Longest answer.")
@click.option("--body", default="{}", callback=_fields, help="More body fields, as JSON: '{\"ignore_eos\": true}'.")
@click.option("--timeout", default=300.0, show_default=True, help="Seconds for one answer.")
@click.option("--limit-first", type=float, help="Goodput: milliseconds to the first token.")
@click.option("--limit-token", type=float, help="Goodput: milliseconds a token after the first, on average.")
@click.option("--limit-total", type=float, help="Goodput: seconds for the whole answer.")
@click.option("--seed", default=0, help="Of prompts and arrivals.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write everything measured here.")
@click.option("--plots", "plots_path", type=click.Path(path_type=Path), help="Write throughput.png and gaps.png here.")
def load(urls: tuple[str, ...], names: tuple[str, ...], models: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401  # click's values, checked by it
    """Put OpenAI-compatible servers under load and compare the first with each other one.

    Token counts are the servers' own (`usage`). Latency counts from when a request was due.
    """
    if plots_path := options["plots_path"]:
        plots.require()
    endpoints = [Endpoint.parse(url, options["api_key"]) for url in urls]
    targets = asyncio.run(_targets(endpoints, names, models, options["body"]))
    plan = _plan(options)
    console = Console(stderr=True)
    if warning := report.load_warning(report.machine()["load_average"]):
        click.echo(warning, err=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        results = asyncio.run(measure(targets, plan, progress))
    output = Console(width=None if Console().is_terminal else 120)
    for result in results:
        output.print(report.table(targets, result))
    if json_path := options["json_path"]:
        secret_free = {key: value for key, value in options.items() if key != "api_key"}
        document = report.document(targets, results, secret_free)
        json_path.write_bytes(orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2))
    if plots_path:
        for path in plots.draw(plots_path, targets, results):
            click.echo(f"wrote {path}", err=True)


async def _targets(
    endpoints: Sequence[Endpoint], names: Sequence[str], models: Sequence[str], fields: dict[str, Any]
) -> list[Target]:
    if len(models) not in (0, 1, len(endpoints)):
        raise click.UsageError("give --model once, or once for each URL")
    if len(names) not in (0, len(endpoints)):
        raise click.UsageError("give --name once for each URL")
    models = list(models) * len(endpoints) if len(models) == 1 else models
    called = [
        name or f"{endpoint.host}:{endpoint.port}"
        for endpoint, name in itertools.zip_longest(endpoints, names, fillvalue="")
        if isinstance(endpoint, Endpoint)
    ]
    if len(set(called)) < len(called):
        raise click.UsageError("two servers have the same name; give each its own --name")
    return [
        Target(name, endpoint, models[place] if models else await find_model(endpoint), fields)
        for place, (name, endpoint) in enumerate(zip(called, endpoints, strict=True))
    ]


def _plan(options: dict[str, Any]) -> Plan:
    levels = [Level(rate=rate) for rate in options["rate"]] or [Level(concurrency=c) for c in options["concurrency"]]
    first, token = options["limit_first"], options["limit_token"]
    return Plan(
        levels=levels,
        num_rounds=max(1, options["rounds"]),
        num_conversations=options["conversations"],
        shape=Shape(options["input_words"], options["prefix_words"], options["turns"]),
        prompts=read_prompts(options["prompts"]) if options["prompts"] else (),
        asking=Asking(options["max_tokens"], options["timeout"]),
        limits=Limits(first and first / 1000, token and token / 1000, options["limit_total"]),
        seed=options["seed"],
    )
