"""The command for missing extras names the origin of the installation."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from infrs import extras


@pytest.mark.parametrize(
    ("record", "command"),
    [
        ('{"url": "file:///src/my%20infrs", "dir_info": {"editable": true}}', "pip install '/src/my infrs[a,b]'"),
        ('{"url": "file:///w/infrs-1-py3-none-any.whl"}', "pip install '/w/infrs-1-py3-none-any.whl[a,b]'"),
        ('{"url": "https://example.com/infrs.whl"}', "pip install '.[a,b]'"),
        (None, "pip install '.[a,b]'"),
    ],
)
def test_the_command_names_the_folder_or_wheel(
    record: str | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "distribution", lambda name: SimpleNamespace(read_text=lambda file: record))
    assert extras.install_command("a,b") == command


def test_the_command_without_a_package_is_that_of_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "distribution", missing)
    assert extras.install_command("export") == "pip install '.[export]'"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--demo"], "export,demo"),
        (["demo/SmolLM2-135M-Instruct"], "export,demo"),
        (["./a.GGUF", "--quiet"], "export,demo"),
        (["org/name", "--dtype", "int8"], "export"),
        ([], "export"),
    ],
)
def test_export_of_a_gguf_file_needs_a_second_extra(arguments: list[str], expected: str) -> None:
    assert extras.export_extras(arguments) == expected
