"""The exporter shows its own progress and hides that of its libraries."""

from __future__ import annotations

from pathlib import Path

import pytest
from infrs_export.hub.download import Arrivals
from infrs_export.progress import Progress
from infrs_export.sources import demo
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model
from transformers import AutoModelForCausalLM, logging


def test_progress_without_a_terminal_prints_notes_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(shown=True) as report:
        report.note("one")
    assert capsys.readouterr().err == "one\n"
    with Progress(shown=True) as report:
        report.note("two")
        for done in range(4):
            report.stage("weights", done, 3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "two"
    assert [line.split()[:3] for line in lines if "3/3" in line] == [["writing", "the", "weights"]]
    assert len(list(filter(None, lines))) == 2


def test_download_progress_is_in_megabytes() -> None:
    reported: list[tuple[int, int]] = []
    arrivals = Arrivals(5_500_000, lambda done, total: reported.append((done, total)))
    for num_bytes in (1_000_000, 2_200_000, -2_200_000, 9_000_000):  # a file that starts again; more than announced
        arrivals.add(num_bytes)
    assert reported == [(1, 6), (4, 6), (1, 6), (6, 6)]


def test_shards_are_read_without_a_bar(tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    capfd.readouterr()
    load_model(resolve(str(tmp_path), revision="main", model_id="a", note=print))
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_gguf_is_read_with_our_progress_bar(capfd: pytest.CaptureFixture[str]) -> None:
    reported: list[tuple[int, int]] = []
    model = resolve(demo.MODEL_ID, revision="main", model_id=None, note=print)
    capfd.readouterr()
    load_model(model, lambda done, total: reported.append((done, total)))
    assert reported == [(done, 272) for done in range(1, 273)]
    assert capfd.readouterr().err == ""
