"""The documents say what is so: endpoints, settings, commands, files."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from infrs_export import cli as export_cli
from sanic import Sanic

from infrs.bundle.manifest import Manifest, Source
from infrs.cli import serve as serve_cli
from infrs.config.merge import flag_name
from infrs.config.settings import SECTIONS, Settings
from infrs.http.app import create_app
from infrs.http.auth import Keys

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def between(marker: str, text: str = README) -> str:
    return text.split(f"<!-- {marker} -->\n")[1].split(f"<!-- /{marker} -->", maxsplit=1)[0]


def settings_table() -> str:
    rows = ["| key | default | description |", "| --- | --- | --- |"]
    rows.append(f"| `models` | | {Settings.model_fields['models'].description} |")
    for section, model in SECTIONS.items():
        for name, field in model.model_fields.items():
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            rows.append(f"| `{section}.{name}` | `{default}` | {field.description} |")
    return "\n".join(rows) + "\n"


def test_the_settings_table_is_complete() -> None:
    assert between("settings") == settings_table()


def test_the_endpoint_table_is_the_route_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> Any:
        raise AssertionError("nothing is loaded here")

    monkeypatch.setattr(Sanic, "test_mode", True)  # tests/http makes one too, of the same name
    app = create_app(Settings(), Keys(()), never, never)
    Sanic.unregister_app(app)
    served = set()
    for route in app.router.routes:
        path = "/" + re.sub(r"<(\w+?)(_id)?(:\w+)?>", r"{id}", route.path)
        served |= {f"{method} {path}" for method in route.methods - {"HEAD", "OPTIONS"}}
    assert set(re.findall(r"^\| `((?:GET|POST|DELETE) \S+)` \|", README, re.MULTILINE)) == served


def flags_of(command: click.Command) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts} | {"--help"}


@pytest.mark.parametrize(
    ("program", "command"), [("infrs-serve", serve_cli.command), ("infrs-export", export_cli.main)]
)
def test_every_flag_that_the_readme_shows_exists(program: str, command: click.Command) -> None:
    shown = {flag for line in re.findall(rf"{program}[^\n`|]*", README) for flag in re.findall(r"--[a-z][a-z-]*", line)}
    assert shown
    assert shown <= flags_of(command)


@pytest.mark.parametrize("kind", ["hub", "gguf"])
def test_every_flag_that_the_exporter_prints_exists(kind: str) -> None:
    manifest = Manifest.model_construct(
        source=Source.model_construct(kind=kind, model_id="org/name", revision="v2"), dtype="int4"
    )
    for use_demo in (True, False):
        line = export_cli._serve_options(manifest, Path("elsewhere"), use_demo=use_demo)
        assert set(re.findall(r"--[a-z][a-z-]*", line)) <= flags_of(serve_cli.command)
        assert "elsewhere" in line


def test_every_setting_has_its_flag() -> None:
    for section, model in SECTIONS.items():
        for name in model.model_fields:
            assert flag_name(f"{section}.{name}") in flags_of(serve_cli.command)


def packages_table() -> str:
    """One row for each package: its folder and the first line of its docstring."""
    inits = sorted(path for folder in ("infrs", "export") for path in (ROOT / folder).rglob("__init__.py"))
    lines = {path.parent.relative_to(ROOT): ast.get_docstring(ast.parse(path.read_text())) or "" for path in inits}
    rows = [f"| `{folder.as_posix()}` | {text.splitlines()[0]} |" for folder, text in sorted(lines.items())]
    return "\n".join(["| package | what it does |", "| --- | --- |", *rows]) + "\n"


def test_the_architecture_document_lists_every_package() -> None:
    assert between("packages", ARCHITECTURE) == packages_table()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_by_a_document_exist(document: Path) -> None:
    named = set(re.findall(r"`((?:infrs|export|tests|docs|benchmarks)/[\w./-]+)`", document.read_text()))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_scripts_named_by_a_document_exist(document: Path) -> None:
    named = set(re.findall(r"-m (benchmarks[\w.]+\w)", document.read_text()))
    assert [name for name in sorted(named) if not (ROOT / name.replace(".", "/")).with_suffix(".py").exists()] == []


def test_modules_named_by_the_architecture_document_exist() -> None:
    text = re.sub(r"```.*?```", "", ARCHITECTURE, flags=re.DOTALL)
    named = set(re.findall(r"`((?:api|bundle|engine|http|models|text|native|config|machine)(?:\.\w+)+)`", text))
    assert named
    found = [ROOT / "infrs" / name.replace(".", "/") for name in sorted(named)]
    assert [path for path in found if not (path.is_dir() or path.with_suffix(".py").exists())] == []


def test_the_wheel_has_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {"infrs": "infrs", "export": "infrs_export"}
    found = {
        ".".join((name, *path.parent.relative_to(ROOT / folder).parts))
        for folder, name in folders.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(listed) == found


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"
