"""How many small faults a set of tests notices: mutation testing of a sample.

    python tests/mutants.py infrs/engine/scheduler.py infrs/engine/slots.py --tests tests/engine --sample 90

Each fault is made in a copy of the checkout. Those that no test notices are listed: some change nothing that matters,
the others want a test. A test that takes longer than `--seconds` has noticed.
"""

from __future__ import annotations

import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import click

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "models_cache", "node_modules", "__pycache__", "build", ".*_cache")
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
        case ast.Compare(ops=[operator]) if type(operator) in OTHER_OPERATOR:
            yield ast.Compare(node.left, [OTHER_OPERATOR[type(operator)]()], node.comparators)
        case ast.BinOp() if type(node.op) in OTHER_OPERATOR:
            yield ast.BinOp(node.left, OTHER_OPERATOR[type(node.op)](), node.right)
        case ast.BoolOp():
            yield ast.BoolOp(OTHER_OPERATOR[type(node.op)](), node.values)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
        case ast.If():
            for test in (True, False):
                yield ast.If(ast.Constant(test), node.body, node.orelse)
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.YieldFrom()) | ast.AugAssign():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """The line of each fault, what it changes, and the source with it."""
    tree = ast.parse(source)
    for place, node in enumerate(ast.walk(tree)):
        for number, _ in enumerate(faults(node)):
            changed = copy.deepcopy(tree)
            old = list(ast.walk(changed))[place]
            new = list(faults(old))[number]
            line = getattr(old, "lineno", 0)
            what = f"{ast.unparse(old).splitlines()[0]}  ->  {ast.unparse(new).splitlines()[0]}"
            yield line, what, ast.unparse(ast.fix_missing_locations(Replace(old, new).visit(changed)))


def notices(folder: Path, tests: tuple[str, ...], seconds: int) -> bool:
    """Whether the tests of a copy fail."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environ = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--tests", multiple=True, required=True, help="What pytest is given; may be told several times.")
@click.option("--sample", default=100, show_default=True, help="Faults that are tried.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True)
@click.option("--seconds", default=300, show_default=True, help="For the tests of one fault.")
def main(files: tuple[str, ...], tests: tuple[str, ...], sample: int, workers: int, seconds: int) -> None:
    """List the faults that no test notices, and the share of those that one does."""
    every = [(name, *mutant) for name in files for mutant in mutants((ROOT / name).read_text())]
    chosen = random.Random(0).sample(every, min(sample, len(every)))
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(workers) as pool:
        folders: Queue[Path] = Queue()
        for number in range(workers):
            folders.put(Path(shutil.copytree(ROOT, Path(place) / str(number), ignore=NOT_COPIED)))
        if notices(folder := folders.get(), tests, seconds):
            raise click.ClickException("the tests fail, or take too long, without any fault")
        folders.put(folder)

        def noticed(mutant: tuple[str, int, str, str]) -> bool:
            name, line, what, source = mutant
            folder = folders.get()
            (folder / name).write_text(source)
            found = notices(folder, tests, seconds)
            shutil.copy(ROOT / name, folder / name)
            folders.put(folder)
            if not found:
                click.echo(f"{name}:{line}: {what}")
            return found

        count = sum(pool.map(noticed, chosen))
    click.echo(f"{count} of {len(chosen)} noticed, {count / len(chosen):.0%}; {len(every)} faults in all")


if __name__ == "__main__":
    main()
