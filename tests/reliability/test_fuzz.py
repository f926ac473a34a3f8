"""Damaged tokenizers, templates, schemas, grammars and manifests are refused with a message, or used.

hypothesis makes them from valid ones, 10,000 of each in the full form. Coverage-guided fuzzing (atheris) would see
little: native code and Jinja read them, without instrumentation.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fake_server import MANIFEST
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import JSON, damaged_bytes, damaged_json
from schemas import SCHEMAS
from text_templates import TEMPLATES
from text_tokenizers import KINDS

from infrs.api.chat.request import parse_chat_request
from infrs.api.common.strict_json import parse_object
from infrs.bundle.files import verify_bundle
from infrs.bundle.manifest import MANIFEST_FILE
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.errors import BundleError, ContextLengthError, RequestError
from infrs.text.chat.template_files import load_chat_format
from infrs.text.constraint import Constraint, ConstraintKind
from infrs.text.token_bytes import TokenBytes
from infrs.text.tokenizer import Tokenizer

SECONDS = 3.0  # that one input may take; a tenth of it on a machine that does nothing else
MEBIBYTES = 256.0  # that one input may take
TAKEN: list[float] = []  # seconds of each input of the test that runs
GROWN: list[float] = []  # and the mebibytes that the process has meanwhile grown by at most
USER = [{"role": "user", "content": "Hello <|im_end|> é😀"}]


@contextlib.contextmanager
def quick() -> Iterator[None]:
    Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is what was most
    before, started = peak_mebibytes(), time.monotonic()
    yield
    TAKEN.append(time.monotonic() - started)
    GROWN.append(peak_mebibytes() - before)
    assert TAKEN[-1] < SECONDS
    assert GROWN[-1] < MEBIBYTES


@pytest.fixture(autouse=True)
def report(figure: Callable[[str], None]) -> Iterator[None]:
    TAKEN.clear()
    GROWN.clear()
    yield
    taken = sorted(TAKEN) or [0.0]
    times = f"999 of 1,000 within {1000 * taken[len(taken) * 999 // 1000 - 1]:.0f} ms, the slowest in {taken[-1]:.2f} s"
    figure(
        f"{len(TAKEN):,} inputs, accepted or refused with a message: {times}, {max(GROWN, default=0):.0f} MiB at most"
    )


def peak_mebibytes() -> float:
    """The most memory that this process has had since its peak was reset."""
    _, _, after = Path("/proc/self/status").read_text().partition("VmHWM:")
    return int(after.split(maxsplit=1)[0]) / 1024


TOKENIZERS = [json.loads(make()) for make in KINDS.values()]
for _definition in TOKENIZERS:  # small, or each damage would hit the vocabulary
    _definition["added_tokens"] = _definition["added_tokens"][:12]


@pytest.mark.nightly("fuzz: tokenizers")
@given(definition=damaged_json(TOKENIZERS))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_tokenizers(definition: bytes) -> None:
    """One that loads may yet fail on a text, which then fails a request; no more."""
    with TemporaryDirectory() as folder, quick():
        (Path(folder) / "tokenizer.json").write_bytes(definition)
        with contextlib.suppress(BundleError):
            tokenizer = Tokenizer.load(Path(folder))
            with contextlib.suppress(ContextLengthError):
                tokenizer.check_length("words, and words again " * 10, 8, "prompt")
            with contextlib.suppress(Exception):
                token_bytes = TokenBytes(tokenizer)
                ids = tokenizer.encode(tokenizer.quote(USER[0]["content"]), special=True)
                tokenizer.decode(ids)
                [token_bytes.spelling(token_id) for token_id in ids]
            with contextlib.suppress(Exception):
                GrammarCompiler(tokenizer, tokenizer.vocab_size, (2,)).compile(Constraint("regex", "a", "x"))


@pytest.mark.nightly("fuzz: chat templates")
@given(source=damaged_bytes([source.encode() for source in TEMPLATES.values()]))
def test_templates(source: bytes) -> None:
    with TemporaryDirectory() as folder, quick():
        (Path(folder) / "chat_template.jinja").write_bytes(source)
        with contextlib.suppress(BundleError, RequestError):
            assert isinstance(load_chat_format(Path(folder)).render(USER), str)


@pytest.mark.nightly("fuzz: tokenizer configurations")
@given(config=damaged_json([{"chat_template": TEMPLATES["chatml"], "bos_token": {"content": "<s>"}}]))
def test_tokenizer_configs(config: bytes) -> None:
    with TemporaryDirectory() as folder, quick():
        (Path(folder) / "tokenizer_config.json").write_bytes(config)
        with contextlib.suppress(BundleError, RequestError):
            assert isinstance(load_chat_format(Path(folder)).render(USER), str)


COMPILER = GrammarCompiler(Tokenizer(KINDS["byte-level"]()), 1000, (2,))
PATTERNS = [rb"[a-z]+@[a-z]{2,8}\.com", rb"(yes|no)(, because .{0,99})?", rb"\d{4}-\d\d-\d\d", rb"(a+)+$", rb"\p{L}*"]
GRAMMARS = [
    b'start: "a" b | c\nb: /[0-9]+/ ("," b)?\nc: %json {"type": "object"}',
    b'root ::= "x" y*\ny ::= [a-z] | root',
]


@pytest.mark.nightly("fuzz: schemas")
@given(schema=damaged_json([*SCHEMAS.values()]))
def test_schemas(schema: bytes) -> None:
    compiles("json_schema", schema.decode(errors="replace"))


@pytest.mark.nightly("fuzz: any JSON as a schema")
@given(schema=JSON)
def test_any_json_as_a_schema(schema: object) -> None:
    compiles("json_schema", json.dumps(schema))


@pytest.mark.nightly("fuzz: patterns")
@given(pattern=damaged_bytes(PATTERNS))
def test_patterns(pattern: bytes) -> None:
    compiles("regex", pattern.decode(errors="replace"))


@pytest.mark.nightly("fuzz: grammars")
@given(grammar=damaged_bytes(GRAMMARS))
def test_grammars(grammar: bytes) -> None:
    compiles("grammar", grammar.decode(errors="replace"))


def compiles(kind: ConstraintKind, text: str) -> None:
    with quick(), contextlib.suppress(RequestError):
        state = COMPILER.compile(Constraint(kind, text, "x")).start()
        assert len(state.allowed()) == 128  # 32-bit words for 1,000 tokens


@pytest.mark.nightly("fuzz: manifests")
@given(manifest=damaged_json([json.loads(MANIFEST.model_dump_json())]))
def test_manifests(manifest: bytes) -> None:
    with TemporaryDirectory() as folder, quick():
        (Path(folder) / MANIFEST_FILE).write_bytes(manifest)
        (Path(folder) / MANIFEST.graph_file).touch()
        with contextlib.suppress(BundleError):
            verify_bundle(Path(folder))


@pytest.mark.nightly("fuzz: bodies of requests")
@given(body=damaged_json([{"model": "x", "messages": USER, "stop": ["a"]}]) | st.binary(max_size=100))
def test_bodies(body: bytes) -> None:
    with quick(), contextlib.suppress(RequestError):
        parse_chat_request(parse_object(body))
