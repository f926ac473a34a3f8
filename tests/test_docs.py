"""The documents say what is so: endpoints, settings, commands, files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from infrs_export import cli as export_cli
from sanic import Sanic

from infrs import serving as serve_cli
from infrs.config import SECTIONS, Settings
from infrs.config_layers import flag_name
from infrs.manifest import Manifest, Source
from infrs.server.app import create_app
from infrs.server.auth import Keys

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def between(marker: str) -> str:
    return README.split(f"<!-- {marker} -->\n")[1].split(f"<!-- /{marker} -->")[0]


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

    monkeypatch.setattr(Sanic, "test_mode", True)  # tests/server makes one too, of the same name
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
    ("program", "command"), [("infrs-serve", serve_cli._command), ("infrs-export", export_cli.main)]
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
        assert set(re.findall(r"--[a-z][a-z-]*", line)) <= flags_of(serve_cli._command)
        assert "elsewhere" in line


def test_every_setting_has_its_flag() -> None:
    for section, model in SECTIONS.items():
        for name in model.model_fields:
            assert flag_name(f"{section}.{name}") in flags_of(serve_cli._command)


def test_the_architecture_document_names_every_file() -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for folder in ("infrs", "export")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".cpp", ".h")
        and path.name not in ("__init__.py", "__main__.py")
        and "third_party" not in path.parts
    }
    named = set(re.findall(r"`((?:infrs|export)/[\w/]+\.(?:py|cpp|h))`", ARCHITECTURE))
    assert {name for name in named if not name.endswith("/__init__.py")} == files


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
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"
