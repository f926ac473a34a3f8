"""What the server never connects to, imports, calls or reveals."""

from __future__ import annotations

import ast
import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_process import JSON, FakeServer, chat_body, fake_server

ROOT = Path(__file__).parents[2]
WATCHED = ROOT / "tests" / "http" / "watched_server.py"
QUIET = {"access_log": False, "log_level": "error"}  # or the unread pipe fills up
KEYS = ("key-of-the-one", "key-of-the-other")
NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../canary",
    "C:\\canary",
    "..%2fcanary",
    "\x00",
    "\u202ecanary",
    "x" * 10_000,
]
NAMES += ["https://canary.example/model", "file:///etc/passwd"]
REFERENCE = {"$ref": "http://canary.example/schema.json"}


def test_a_request_opens_no_connection_or_file_and_imports_nothing_heavy() -> None:
    """No name, image, schema or template that a request brings makes the server open a connection or a file."""
    image = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/canary"}}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": REFERENCE}}
    with fake_server(script=WATCHED) as server:
        for name in NAMES:
            assert server.chat(model=name).status == 404
        for path in ("/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2fcanary", "/v1/models/http://canary.example"):
            assert server.get(path).status == 404
        assert server.chat([image]).error[3] == "unsupported_content"  # type: ignore[arg-type]
        assert server.chat(response_format=schema).status == 400
        tool = {"type": "function", "function": {"name": "f", "parameters": REFERENCE}}
        assert server.chat(tools=[tool], max_tokens=1).status == 200  # shown to the model, and no more
        assert server.chat(chat_template="{% include '/etc/passwd' %}").status == 400
        assert server.chat(max_tokens=2).status == 200
        server.process.terminate()
        output = server.output()
    assert "IMPORTED []" in output
    assert [line for line in output.splitlines() if "REACHED" in line] == []


def test_the_hook_reports_forbidden_events() -> None:
    """The hook reports connections and files, so the test above can fail."""
    seen = (ROOT / "tests" / "http" / "watched_server.py").read_text()
    scope: dict[str, object] = {"__name__": "watched"}
    exec(compile(seen, "watched", "exec"), scope)  # noqa: S102 (our own file)
    written: list[str] = []
    scope["print"] = lambda text, **_: written.append(text)
    watch = scope["watch"]
    assert callable(watch)
    watch("socket.connect", (None, ("192.0.2.1", 80)))
    watch("open", ("/etc/passwd", "r", 0))
    watch("open", ("/usr/lib/harmless", "r", 0))
    assert len(written) == 2


FORBIDDEN_CALLS = {
    "eval", "exec", "pickle.load", "pickle.loads", "marshal.loads", "yaml.load", "os.system", "os.popen", "torch.load",
    "jinja2.Environment", "Environment", "tarfile.open", "shelve.open", "__import__",
}  # fmt: skip
FORBIDDEN_OPTIONS = {"shell": "True", "allow_pickle": "True", "trust_remote_code": "True", "weights_only": "False"}


def offences(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"{path.name} imports {name}" for name in names if name in ("pickle", "shelve", "marshal"))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS or name.endswith((".extract", ".extractall")):
                yield f"{path.name}:{node.lineno} {name}"
            for keyword in node.keywords:
                if FORBIDDEN_OPTIONS.get(keyword.arg or "") == ast.unparse(keyword.value):
                    yield f"{path.name}:{node.lineno} {keyword.arg}"


def test_no_function_that_runs_code_is_called(tmp_path: Path) -> None:
    files = [path for folder in ("infrs", "export") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    found = [offence for path in files for offence in offences(path)]
    # One member, by its name, of a wheel with a checked hash; the library keeps it inside its folder.
    assert [offence.partition(" ")[2] for offence in found if offence.startswith("demo.py:")] == ["archive.extract"]
    assert [offence for offence in found if not offence.startswith("demo.py:")] == []
    bad = tmp_path / "bad.py"
    bad.write_text("import pickle\npickle.loads(b'')\nsubprocess.run('x', shell=True)\neval('1')\n")
    assert len(list(offences(bad))) == 4


def distance(one: list[float], other: list[float]) -> float:
    """Kolmogorov and Smirnov's statistic, over its critical value at p = 0.01."""
    joined = sorted([(x, 1 / len(one)) for x in one] + [(x, -1 / len(other)) for x in other])
    most = max(abs(total) for total in itertools.accumulate(step for _, step in joined))
    return most / (1.63 * ((len(one) + len(other)) / (len(one) * len(other))) ** 0.5)


@pytest.mark.nightly("time across keys")
@pytest.mark.serial
def test_time_does_not_reveal_prompts_of_another_key(full: bool, figure: Callable[[str], None]) -> None:
    """A prompt that another key has sent is not reused, and takes as long as one that no key has sent.

    The time is compared in the full form only: a shared machine gives other times.
    """
    count = 500 if full else 20
    numbers = itertools.count()

    def ask(server: FakeServer, key: str, text: str, *, reuses: bool = False) -> float:
        headers = JSON | {"authorization": f"Bearer {key}"}
        started = time.perf_counter()
        answer = server.request("POST", "/v1/chat/completions", chat_body(text, max_tokens=1), headers)
        taken = time.perf_counter() - started
        assert answer.status == 200
        assert (answer.json["usage"]["prompt_tokens_details"]["cached_tokens"] > 500) == reuses
        return taken

    def text() -> str:
        choose = random.Random(next(numbers))
        return "".join(choose.choices("abcdefgh ", k=800))

    with fake_server(engine="synthetic", rows=2, capacity=1024, keys=",".join(KEYS), server=QUIET) as server:

        def measure() -> tuple[float, float]:
            fresh, others, own = [], [], []
            for _ in range(count):
                known = text()
                ask(server, KEYS[0], known)
                own.append(ask(server, KEYS[0], known, reuses=True))
                others.append(ask(server, KEYS[1], known))
                fresh.append(ask(server, KEYS[1], text()))
            return distance(fresh, others), distance(fresh, own)

        # A leak shows every time; a busy machine does not.
        for _ in range(3):
            leaked, seen = measure()
            if leaked < 1 < seen or not full:
                break
    if not full:
        return
    assert leaked < 1
    assert seen > 1, "a prefix of the same key should be quicker, or this test sees nothing"
    figure(
        f"{count} of each, of three tries at most: {leaked:.2f} of the distance that p = 0.01 allows",
    )
