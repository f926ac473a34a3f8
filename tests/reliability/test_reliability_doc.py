"""docs/reliability.md names tests, settings and metrics that exist."""

import re
from pathlib import Path

from fake_process import fake_server

from infrs.config.settings import SECTIONS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()


def test_the_commands_of_the_page_name_existing_tests() -> None:
    paths = [word for line in re.findall(r"^    pytest (.+)$", TEXT, re.MULTILINE) for word in line.split()]
    paths = [path for path in paths if path.startswith("tests/")]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_settings_of_the_page_exist() -> None:
    keys = {f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields}
    named = set(re.findall(r"`((?:server|engine|model)\.\w+)`", TEXT))
    assert len(named) > 10
    assert named <= keys


def test_the_table_of_metrics_is_complete() -> None:
    with fake_server(engine="synthetic", embedding="beside") as server:
        exported = set(re.findall(r"^# TYPE (\S+)", server.get("/metrics").body.decode(), re.MULTILINE))
    exported = {name for name in exported if not name.endswith("_created")}
    rows = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)", row)} == exported
