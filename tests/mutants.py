"""How many small faults a set of tests notices: mutation testing of a sample.

    python tests/mutants.py infrs/engine/scheduling/planner.py --tests tests/engine --sample 90

Each fault is made in a copy of the checkout. First one case of every test runs for each, those in front that noticed
faults before, then all cases for the faults that are left. Of the undetected faults, some change nothing
important; the others need a test.

Left out is what no test could notice or every test would: strings; annotations, but for the calls in them, which are
the bounds of fields; decorators, which are flags of data classes; `zip(strict=...)`, an assertion; lines that log.
What the tests cannot be imported with is tried, but not counted.
"""

from __future__ import annotations

import ast
import copy
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Queue
from typing import NamedTuple

import click
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "models_cache", "node_modules", "__pycache__", "build", ".*_cache")
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
OTHER_OPERATOR: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.BitOr: ast.BitAnd},
}


class Replace(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def faults(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Compare(ops=[operator]) | ast.BinOp(op=operator) | ast.BoolOp(op=operator) if (
            other := OTHER_OPERATOR.get(type(operator))
        ):
            changed = copy.copy(node)
            vars(changed).update({"ops": [other()]} if isinstance(node, ast.Compare) else {"op": other()})
            yield changed
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.If():
            for test in (True, False):
                yield ast.If(ast.Constant(test), node.body, node.orelse)
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.YieldFrom()) | ast.AugAssign():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def places(node: ast.AST, *, in_type: bool = False) -> Iterator[ast.AST]:
    """The nodes that faults may be made of, those of `node` itself included."""
    match node:
        case ast.JoinedStr() | ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="logger")))):
            return
        case ast.Call(func=ast.Name(id="zip")):
            node = ast.Tuple(node.args)
        case ast.Call():
            in_type = False
    if not in_type:
        yield node
    for name, field in ast.iter_fields(node):
        if name != "decorator_list":
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    yield from places(child, in_type=in_type or name in ("annotation", "returns"))


class Fault(NamedTuple):
    """The `number`-th fault of the `place`-th node of a file."""

    file: str
    place: int
    number: int

    def make(self) -> tuple[str, str]:
        """Where it is and what it changes; the file's source with it."""
        tree = ast.parse((ROOT / self.file).read_text())
        old = list(places(tree))[self.place]
        new = copy.deepcopy(list(faults(old))[self.number])
        was, becomes = (ast.unparse(node).splitlines()[0] for node in (old, new))
        source = ast.unparse(ast.fix_missing_locations(Replace(old, new).visit(tree)))
        return f"{self.file}:{getattr(old, 'lineno', 0)}: {was}  ->  {becomes}", source


def every_fault(file: str) -> Iterator[Fault]:
    """Those that can be made in a file."""
    for place, node in enumerate(places(ast.parse((ROOT / file).read_text()))):
        yield from (Fault(file, place, number) for number, _ in enumerate(faults(node)))


class Tests:
    """The tests that pytest collects of `paths`, and how many faults each has noticed."""

    def __init__(self, folder: Path, paths: tuple[str, ...], seconds: int) -> None:
        self.paths = paths
        self.seconds = seconds
        self.noticed: Counter[str] = Counter()
        self.all = [line for line in self._pytest(folder, "--collect-only", *paths)[1].splitlines() if "::" in line]
        self.one_of_each = list({case.partition("[")[0]: case for case in self.all[::-1]}.values())[::-1]

    def noticing_test(self, folder: Path, *, all_cases: bool) -> str:
        """The test that fails, or the file that cannot be imported; empty if no test fails."""
        first = sorted({*self.one_of_each, *self.noticed}, key=lambda case: (-self.noticed[case], case))
        who = self._first_failure(folder, self.paths if all_cases else first)
        if who in self.all:
            self.noticed[who] += 1
        return who

    def _first_failure(self, folder: Path, tests: Iterable[str]) -> str:
        for _ in range(2):  # the machine may have slept
            code, output = self._pytest(folder, "-x", "--tb=no", f"--timeout={self.seconds}", *tests)
            if code is not None and "Timeout (>" not in output:
                break
        if code == 0:
            return ""
        if found := re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, flags=re.MULTILINE):
            return found[1]
        if code == pytest.ExitCode.USAGE_ERROR:
            return "conftest.py"
        if code is None or code < 0:
            return "it never ends" if code is None else f"signal {-code}"
        raise click.ClickException(f"pytest itself fails with exit code {code}: {output[-500:]}")

    def _pytest(self, folder: Path, *arguments: str) -> tuple[int | None, str]:
        """Its exit code, None if it took too long, and what it printed."""
        environ = os.environ | {"PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        with (folder / "output").open("w+") as output:
            try:
                code: int | None = subprocess.call(
                    [*PYTEST, *arguments], cwd=folder, env=environ, stdout=output, timeout=20 * self.seconds
                )
            except subprocess.TimeoutExpired:
                code = None
            output.seek(0)
            return code, output.read()


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--tests", "paths", multiple=True, required=True, help="Tests to run with pytest; may be repeated.")
@click.option("--sample", default=100, show_default=True, help="Faults that are tried.")
@click.option("--seed", default=0, show_default=True, help="Which ones.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True)
@click.option("--seconds", default=60, show_default=True, help="For one test; one that takes longer twice has noticed.")
def main(files: tuple[str, ...], paths: tuple[str, ...], *, sample: int, seed: int, workers: int, seconds: int) -> None:
    """List a sample of the faults with the failing test of each, then the share of detected faults."""
    every = [fault for file in files for fault in every_fault(file)]
    chosen = random.Random(seed).sample(every, min(sample, len(every)))
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(workers) as pool:
        folders: Queue[Path] = Queue()
        for number in range(workers):
            folders.put(folder := Path(shutil.copytree(ROOT, Path(place) / str(number), ignore=NOT_COPIED)))
        tests = Tests(folder, paths, seconds)
        if who := tests.noticing_test(folder, all_cases=True):
            raise click.ClickException(f"without any fault, {who} fails")

        def try_out(fault: Fault, *, all_cases: bool) -> str:
            what, source = fault.make()
            folder = folders.get()
            (folder / fault.file).write_text(source)
            who = tests.noticing_test(folder, all_cases=all_cases)
            shutil.copy(ROOT / fault.file, folder / fault.file)
            folders.put(folder)
            click.echo(f"{what}\n    {who or ('NOBODY' if all_cases else 'nobody so far')}")
            return who

        found = dict(zip(chosen, pool.map(partial(try_out, all_cases=False), chosen), strict=True))
        left = [fault for fault, who in found.items() if not who]
        found |= zip(left, pool.map(partial(try_out, all_cases=True), left), strict=True)
    counted = [who for who in found.values() if not who.endswith(".py")]
    noticed = sum(map(bool, counted))
    click.echo(
        f"{noticed} of {len(counted)} noticed, {noticed / len(counted):.1%}; "
        f"{len(every)} faults in all, {len(chosen) - len(counted)} of {len(chosen)} tried could not be imported"
    )


if __name__ == "__main__":
    main()
