"""The page's modules in Node, without a page."""

from __future__ import annotations

from node_scripts import run_script


def test_the_modules_work_without_a_page() -> None:
    run_script("modules")
