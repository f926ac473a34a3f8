"""The floors of docs/architecture.md: a file imports only from floors below its own, or from its own package."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground up. A name stands for the module or the whole package; the longest name that fits counts.
FLOORS = [
    {"infrs", "infrs.errors", "infrs.extras", "infrs.spelling", "infrs.cli.process_1", "infrs.config.other_names"},
    {"infrs.core", "infrs.metrics", "infrs.native", "infrs.worker", "infrs.machine", "infrs.web", "infrs.cli.command"},
    {"infrs.bench"},  # an HTTP client, which knows nothing of the server
    {"infrs.bundle", "infrs.text"},
    {"infrs.config"},
    {"infrs.engine.runners"},
    {"infrs.engine.speculation"},
    {"infrs.engine.sampling", "infrs.engine.output"},
    {"infrs.engine.sequence"},
    {"infrs.engine.scheduling"},
    {"infrs.engine.engine"},
    {"infrs.engine.invariants"},
    {"infrs.engine"},
    {"infrs.models"},
    {"infrs.api.common", "infrs.api.output"},
    {"infrs.api.chat"},
    {"infrs.api"},
    {"infrs.batches"},
    {"infrs.http"},
    {"infrs.http.lifecycle"},
    {"infrs.http.routes"},
    {"infrs.http.app"},
    {"infrs.cli", "infrs.bench.engine"},
    {"infrs.cli.serve", "infrs.bench.entry", "infrs.llm"},
    {"infrs.cli.entry", "infrs.terminal"},
    {"infrs.__main__"},
]
ONLY_IN: dict[str, str | tuple[str, ...]] = {
    "onnxruntime": "infrs.engine.runners.session",
    "sanic": "infrs.http",
    "opentelemetry": "infrs.http.observability.tracing",
    "asyncio": ("infrs.http", "infrs.models", "infrs.batches", "infrs.bench", "infrs.llm", "infrs.terminal"),
    "click": ("infrs.cli", "infrs.bench", "infrs.terminal"),
    "tokenizers": "infrs.text",
    "jinja2": "infrs.text.chat",
    "llguidance": ("infrs.engine.sampling", "infrs.text.schemas.guided"),
}
NOT_IN_SERVER = {"torch", "transformers", "optimum", "onnx", "infrs_export", "huggingface_hub", "gguf"}
SHARED_WITH_EXPORT = {
    "infrs",
    "infrs.extras",
    "infrs.cli.command",
    "infrs.cli.process_1",
    "infrs.errors",
    "infrs.native.options",
    "infrs.bundle.manifest",
    "infrs.bundle.graph_signature",
    "infrs.bundle.local_models",
    "infrs.bundle.states",
    "infrs.engine.runners.opening",
    "infrs.engine.runners.runner",
    "infrs.engine.runners.session",
    "infrs.text.chat.sandbox.environment",
    "infrs.text.bounds.growth",
}

Imports = Mapping[str, set[str]]


def modules(folder: str, package: str) -> dict[str, Path]:
    """Each module of a package by its dotted name."""
    paths = {path.relative_to(ROOT / folder).with_suffix(""): path for path in (ROOT / folder).rglob("*.py")}
    names = {".".join((package, *relative.parts)).removesuffix(".__init__"): path for relative, path in paths.items()}
    return dict(sorted(names.items()))


def imports_of(name: str, path: Path, known: set[str]) -> Iterator[str]:
    """Modules that a file imports anywhere, in functions too; `from package import module` names the module.

    Imports for type checkers alone are left out: they never run.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not _is_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module or "")))
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in known else base


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(folder: str, package: str) -> Imports:
    names = modules(folder, package)
    return {
        name: set(imports_of(name, path, names.keys() | {"infrs.bundle.graph_signature"}))
        for name, path in names.items()
    }


def place(name: str) -> tuple[int, str]:
    """The floor of a module, and the entry of FLOORS that it falls under."""
    entries = {entry: floor for floor, names in enumerate(FLOORS) for entry in names}
    fits = [entry for entry in entries if is_within(name, entry) and (entry != "infrs" or name == "infrs")]
    assert fits, f"{name} is on no floor: give it one in tests/test_layers.py"
    entry = max(fits, key=len)
    return entries[entry], entry


def is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def too_high(graph: Imports) -> list[str]:
    """Imports from the same floor's other rooms, or from above."""
    wrong = []
    for name, targets in graph.items():
        floor, entry = place(name)
        for target in sorted(target for target in targets if is_within(target, "infrs")):
            target_floor, target_entry = place(target)
            if target_floor > floor or (target_floor == floor and target_entry != entry):
                wrong.append(f"{name} imports {target}")
    return wrong


def misplaced(graph: Imports) -> list[str]:
    """Libraries where they do not belong."""
    wrong = []
    for name, targets in graph.items():
        for library in sorted({target.split(".")[0] for target in targets}):
            if library in NOT_IN_SERVER or not name.startswith(ONLY_IN.get(library, "infrs")):
                wrong.append(f"{name} imports {library}")
    return wrong


def test_floors() -> None:
    assert too_high(imports("infrs", "infrs")) == []


def test_libraries_stay_in_their_rooms() -> None:
    assert misplaced(imports("infrs", "infrs")) == []


def test_request_models_do_not_import_the_core() -> None:
    """Requests are what clients send; `infrs.api.common.engine_request` converts them to what the engine takes."""
    graph = imports("infrs", "infrs")
    requests = [name for name in graph if is_within(name, "infrs.api") and name.endswith(".request")]
    assert requests
    assert [name for name in requests if "infrs.core" in graph[name]] == []


@pytest.mark.parametrize("folder", ["infrs", "export", "benchmarks", "docs"])
def test_no_folder_has_more_than_twelve_files(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    counted = [path for path in files if path.name != "__init__.py" and path.suffix not in {".pyc", ".so"}]
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in counted)
    assert {path: size for path, size in sizes.items() if size > 12} == {}


@pytest.mark.parametrize(("folder", "package"), [("infrs", "infrs"), ("export", "infrs_export")])
def test_no_cycles(folder: str, package: str) -> None:
    graph = imports(folder, package)
    TopologicalSorter({name: targets & graph.keys() for name, targets in graph.items()}).prepare()  # CycleError


def test_the_exporter_shares_the_bundle_format_and_the_runners_only() -> None:
    graph = imports("export", "infrs_export")
    used = {target for targets in graph.values() for target in targets if is_within(target, "infrs")}
    assert used - SHARED_WITH_EXPORT == set()
    assert "infrs.bundle.manifest" in used
    for path in modules("export", "infrs_export").values():
        assert "infrs_export" not in {alias.split(".")[0] for alias in _absolute(path)}, f"{path}: import it relatively"


def _absolute(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def test_a_breach_is_seen() -> None:
    graph = {
        "infrs.text.stop": {"infrs.engine.scheduling.plan", "re"},
        "infrs.engine.scheduling.plan": {"infrs.engine.service", "infrs.core"},
        "infrs.bundle.manifest": {"infrs.text.stop"},
        "infrs.engine.sampling.sampler": {"onnxruntime", "torch.nn"},
        "infrs.engine.runners.session": {"onnxruntime", "asyncio"},
    }
    assert too_high(graph) == [
        "infrs.text.stop imports infrs.engine.scheduling.plan",
        "infrs.engine.scheduling.plan imports infrs.engine.service",
        "infrs.bundle.manifest imports infrs.text.stop",
    ]
    assert misplaced(graph) == [
        "infrs.engine.sampling.sampler imports onnxruntime",
        "infrs.engine.sampling.sampler imports torch",
        "infrs.engine.runners.session imports asyncio",
    ]
