"""The kernels' ways to split their work keep 1 to 128 threads busy.

`recorded_parts.cpp` runs them with a launcher that counts the multiply-adds of each part. It computes the time that the
threads would need, without memory and wake-ups. So a small machine shows how a larger one would share the work.
"""

from __future__ import annotations

import random
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "infrs" / "native"
THREADS = range(1, 129)
PART_WORK = 1 << 15  # multiply-adds that pay for waking a thread (row_tiles.h)
MANY_UNITS = 12  # of work for each thread; with fewer, the last units leave some threads without work

Record: TypeAlias = Callable[[Sequence[tuple[str | int, ...]]], list[list[int]]]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Compile the program and return a function that runs its cases."""
    program = tmp_path_factory.mktemp("parts") / "recorded_parts"
    (extension,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    sources = [Path(__file__).with_name("recorded_parts.cpp"), KERNELS / "attention" / "attention.cpp"]
    subprocess.run(["c++", *extension["extra-compile-args"], "-I", KERNELS, *sources, "-o", program], check=True)

    def run(cases: Sequence[tuple[str | int, ...]]) -> list[list[int]]:
        lines = "".join(" ".join(map(str, case)) + "\n" for case in cases)
        done = subprocess.run([program], input=lines, capture_output=True, text=True, check=True)
        results = [[int(number) for number in line.split()] for line in done.stdout.splitlines()]
        assert len(results) == len(cases)
        return results

    return run


def test_ranges_cover_all_items_evenly_and_keep_every_thread_busy(record: Record) -> None:
    draw = random.Random(0)
    sizes = [1, 2, 3, 7, 31, 32, 33, 96, 100, 512, 3072, 8016]
    cases = [
        (draw.choice([*sizes, draw.randint(1, 9999)]), draw.choice([0, 1, 3, 40]), draw.randint(1, 128))
        for _ in range(3000)
    ]
    for (items, grain, threads), ends in zip(cases, record([("ranges", *case) for case in cases]), strict=True):
        case = f"{items} items, {grain} at least, {threads} threads"
        ranges = list(zip(ends[::2], ends[1::2], strict=True))
        assert [first for first, _ in ranges] + [items] == [0] + [last for _, last in ranges], case
        lengths = [last - first for first, last in ranges]
        assert max(lengths) - min(lengths) <= 1, case
        assert min(lengths) >= min(items, grain), case
        assert len(ranges) <= 4 * threads, case
        # Either each thread gets the same number of ranges, or there are not enough items to give each thread one.
        assert len(ranges) % threads == 0 or len(ranges) == max(1, items // max(1, grain)) < threads, case
        assert threads > 1 or len(ranges) == 1, case


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(576, 1536), (1536, 576), (576, 49152), (2048, 8192), (8192, 2048), (2048, 128256)]
)
@pytest.mark.parametrize(("tile_rows", "columns"), [(6, 16), (12, 32)])  # of quantized weights, and of the others
def test_the_threads_share_a_product(inputs: int, outputs: int, tile_rows: int, columns: int, record: Record) -> None:
    """Efficiency is the work divided by what the threads could do meanwhile. Small products have less: a part has at
    least `PART_WORK` multiply-adds, and a unit of work is a tile of rows with a group of columns."""
    cases = [(rows, threads) for rows in (1, 8, 49, 128, 1200) for threads in THREADS]
    asked = [("product", rows, tile_rows, inputs, outputs, columns, threads) for rows, threads in cases]
    large = 0
    for (rows, threads), (work, time, _) in zip(cases, record(asked), strict=True):
        assert work == rows * inputs * (outputs + 1)  # each row meets each column once, and is rounded once
        units = -(-rows // tile_rows) * outputs // columns
        if work >= threads * PART_WORK and units >= MANY_UNITS * threads:
            large += 1
            least = 0.87 if rows == 49 else 0.9  # 49 rows are tiles of five and of six rows
            assert work / (threads * time) >= least, (rows, threads)
    assert large > 100


ROWS = {
    "alone behind 8,000 tokens": (1, [8000]),
    "alone behind 32,000 tokens": (1, [32000]),
    "eight alike": (1, [4000] * 8),
    "a long row first": (1, [16000] + [100] * 7),
    "a long row last": (1, [100] * 7 + [16000]),
    "a prompt": (1200, [1200]),
    "a prompt behind others": (256, [4000, 2000]),
}


@pytest.mark.parametrize(("heads", "key_heads"), [(9, 3), (32, 8)])
@pytest.mark.parametrize(("tokens", "lengths"), ROWS.values(), ids=ROWS.keys())
def test_the_threads_share_attention(
    heads: int, key_heads: int, tokens: int, lengths: list[int], record: Record
) -> None:
    """A unit of work is 256 keys with up to 48 queries that share them."""
    asked = [("attention", tokens, heads, key_heads, 64, 0, threads, *lengths) for threads in THREADS]
    unit = 2 * 256 * 64 * min(48, tokens * heads // key_heads)
    large = 0
    for threads, (work, time, _) in zip(THREADS, record(asked), strict=True):
        if work >= threads * MANY_UNITS * unit:
            large += 1
            assert work / (threads * time) >= 0.9, threads
    assert large >= 7


def test_the_threads_share_the_merging_of_long_contexts(record: Record) -> None:
    [[_, _, short], [_, _, long]] = record([("attention", 1, 32, 8, 64, 0, 32, length) for length in (300, 32768)])
    assert (short, long) == (1, 2)  # regions: the keys, and for the long context the merging
