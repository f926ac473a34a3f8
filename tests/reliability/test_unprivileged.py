"""The server runs as an unprivileged user with a read-only cache, home and working folder, and writes nothing."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import serving

from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow

MODEL = "demo/SmolLM2-135M-Instruct"
NOBODY = 65534
# Report each file that Python opens for writing and each change of a folder, allowed or not (PEP 578). What libraries
# write is no audit event, so the limit lets no file grow (RLIMIT_FSIZE in setrlimit(2)).
PROGRAM = """
import os, resource, sys

resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {"os." + name for name in ("mkdir", "rename", "remove", "rmdir", "link", "symlink", "chmod", "truncate")}

def watch(event, arguments):
    if event in CHANGES or event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
        print("WROTE", event, arguments[0], file=sys.stderr, flush=True)

sys.addaudithook(watch)
open(os.devnull, "w").close()
from infrs.cli.entry import serve
serve()
"""


def as_other_account() -> list[str]:
    """Return the command prefix for an account with root's read access, for an interpreter in root's home."""
    if os.geteuid() != 0:
        return []
    capability = "-all,+dac_read_search"
    options = [f"--inh-caps={capability}", f"--ambient-caps={capability}", "--clear-groups", "--no-new-privs"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", *options]


def test_read_access_is_sufficient_for_serving(demo_bundle: Callable[[Dtype], Path], tmp_path: Path) -> None:
    source = demo_bundle("int8")
    cache, home, scratch = tmp_path / "cache", tmp_path / "home", tmp_path / "scratch"
    bundle = Path(shutil.copytree(source, cache / source.parent.name / source.name))
    home.mkdir()
    scratch.mkdir()
    if as_other_account():
        os.chown(scratch, NOBODY, NOBODY)
    readable = [*bundle.iterdir(), bundle, bundle.parent, cache, home]
    for path in readable:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in readable}
    environ = {"HOME": str(home), "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(home)}
    command = [*as_other_account(), sys.executable, "-c", PROGRAM]
    options = ("--demo", "--cache-dir", cache, "--threads", "1")
    with serving(*options, environ=environ, command=command, folder=home) as server:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY if as_other_account() else os.geteuid()}" in status
        client = server.client()
        messages = [{"role": "user", "content": "What is 2+2?"}]
        answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4, temperature=0)  # type: ignore[arg-type]
        assert answer.choices[0].message.content
        stream = client.completions.create(model=MODEL, prompt="The sea", max_tokens=4, stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
        stored = client.responses.create(model=MODEL, input="What is 2+2?", max_output_tokens=16)
        assert client.responses.retrieve(stored.id).id == stored.id
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        assert re.search(r"^Max file size +0 +0 ", limits, re.MULTILINE)
    written = [line.split(maxsplit=2)[2].strip() for line in server.lines if line.startswith("WROTE")]
    assert set(written) == {os.devnull}  # the watch sees, and there was nothing else
    assert list(scratch.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in readable} == before
    for path in readable:
        path.chmod(0o755)  # or pytest may not clean up
