"""docs/reliability.md names tests, settings and metrics that exist."""

import re
from pathlib import Path

from infrs.config import SECTIONS
from infrs.metrics import Metrics

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()


def test_its_commands_name_tests() -> None:
    paths = [word for line in re.findall(r"^    pytest (.+)$", TEXT, re.MULTILINE) for word in line.split()]
    paths = [path for path in paths if path.startswith("tests/")]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_its_settings_exist() -> None:
    keys = {f"{section}.{name}" for section, model in SECTIONS.items() for name in model.model_fields}
    named = set(re.findall(r"`((?:server|engine|model)\.\w+)`", TEXT))
    assert len(named) > 10
    assert named <= keys


def test_its_metrics_exist() -> None:
    metrics = Metrics()
    of_model = ("requests_running", "requests_waiting", "kv_used_ratio")  # that is loaded
    for name in (*of_model, "stored_responses", "stored_responses_bytes"):
        metrics.gauge(f"infrs_{name}", name, lambda: 0.0)
    metrics.total("infrs_preemptions", "preemptions", lambda: 0.0)
    known = set(re.findall(r"^# TYPE (\S+)", metrics.render().decode(), re.MULTILINE))
    named = set(re.findall(r"`((?:infrs|process)_\w+)", TEXT)) - {"infrs_"}
    assert {name for name in known if name.startswith("infrs_") and not name.endswith("_created")} <= named
    assert named <= known
