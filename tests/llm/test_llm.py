"""A model in a program: its life, its errors, and the threads and loops around it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import local_model
import pytest
from fake_classifier import CLASSIFIER_ID
from fake_encoder import EMBEDDING_ID
from fake_process import MODEL

import infrs
from infrs.errors import ConfigError, ExportError, InfrsError, RequestError
from infrs.llm import LLM, AsyncLLM, SamplingParams, async_llm
from infrs.llm.model_settings import resolve, to_settings

USER = [{"role": "user", "content": "hi"}]
SHORT = SamplingParams(seed=1, max_tokens=6)
FOLDER = Path(__file__).parent


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LLM]]:
    """Make an LLM of a synthetic model, which is closed after the test."""
    monkeypatch.setattr(async_llm, "resolve", local_model.resolve)
    made: list[LLM] = []

    def new(model: str = MODEL) -> LLM:
        made.append(LLM(model))
        return made[-1]

    yield new
    for llm in made:
        llm.close()


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run a script that has the synthetic model."""
    head = (
        "import conftest, local_model\nfrom infrs.llm import LLM, async_llm\nasync_llm.resolve = local_model.resolve\n"
    )
    return subprocess.run(
        [sys.executable, "-c", head + code], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=120
    )


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("infrs")}


def test_import_infrs_imports_nothing_else() -> None:
    code = (
        "import infrs, sys; print([name for name in sys.modules if name.split('.')[0] in ('infrs', 'numpy', 'sanic')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['infrs']"


def test_the_package_exports_the_models() -> None:
    assert infrs.LLM is LLM
    assert infrs.AsyncLLM is AsyncLLM
    with pytest.raises(AttributeError, match="no attribute 'llms'"):
        infrs.llms  # type: ignore[attr-defined]  # noqa: B018


def test_a_script_may_end_without_closing() -> None:
    done = run(f"llm = LLM({MODEL!r})\nprint(len(llm.generate('hi', max_tokens=3)))")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_the_models_need_no_server() -> None:
    code = "import infrs, sys; infrs.LLM; print('sanic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_close_frees_the_model_and_ends_its_threads(make: Callable[..., LLM]) -> None:
    before = threads()
    llm = make()
    llm.generate("hi", SHORT)
    assert llm._llm._served is not None
    model = weakref.ref(llm._llm._served.model)
    llm.close()
    llm.close()
    gc.collect()
    assert model() is None
    assert threads() == before
    with pytest.raises(ValueError, match="closed"):
        llm.generate("hi", SHORT)


def test_two_models_may_be_open_and_opened_again(make: Callable[..., LLM]) -> None:
    with make() as first, make() as second:
        assert first.generate("hi", SHORT)[0].outputs == second.generate("hi", SHORT)[0].outputs
    third = make()
    assert len(third.generate(["a", "b"], SHORT)) == 2
    assert third.generate([], SHORT) == third.chat([], SHORT) == []


def test_an_llm_works_while_a_loop_runs(make: Callable[..., LLM]) -> None:
    async def cell() -> int:
        return len(make().chat(USER, SHORT)[0].outputs)

    assert asyncio.run(cell()) == 1


def test_several_threads_share_a_model(make: Callable[..., LLM]) -> None:
    llm = make()
    expected = llm.generate("hi", SHORT)[0].outputs
    found: list[object] = []
    workers = [threading.Thread(target=lambda: found.extend(llm.generate(["hi"] * 4, SHORT))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [each.outputs for each in found] == [expected] * 16  # type: ignore[attr-defined]


def test_an_interrupted_call_cancels_its_requests() -> None:
    code = f"""
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
llm = LLM({MODEL!r})
threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    while True:
        llm.generate(["hi"] * 50, max_tokens=80, ignore_eos=True)
except KeyboardInterrupt:
    print("interrupted")
deadline = time.monotonic() + 20
while llm._llm._served.num_in_flight and time.monotonic() < deadline:
    time.sleep(0.01)
print(llm._llm._served.num_in_flight, len(llm.generate("hi", max_tokens=2)))
"""
    done = run(code)
    assert (done.returncode, done.stdout) == (0, "interrupted\n0 1\n"), done.stderr


def test_a_stream_that_is_left_frees_its_place(make: Callable[..., LLM]) -> None:
    llm = make()
    for _ in range(8):  # more than the places of the model
        for chunk in llm.stream("hi", max_tokens=60, ignore_eos=True):
            assert chunk.index == 0
            break
    deadline = time.monotonic() + 20
    assert llm._llm._served is not None
    while llm._llm._served.num_in_flight:
        assert time.monotonic() < deadline
        gc.collect()
        time.sleep(0.01)


def test_an_invalid_request_names_its_field(make: Callable[..., LLM]) -> None:
    llm = make()
    with pytest.raises(RequestError) as raised:
        llm.generate(["a", "b"], SHORT, foo=1)
    assert raised.value.param == "foo"
    with pytest.raises(RequestError) as raised:
        llm.chat(USER, SamplingParams(temperature=9.0))
    assert raised.value.param == "temperature"
    with pytest.raises(RequestError, match="needs an embedding model: name one"):
        llm.embed("hi")
    with pytest.raises(RequestError, match="needs a classifier: name one"):
        llm.score("a", "b")
    with pytest.raises(RequestError, match="text_1 2") as raised:
        make(CLASSIFIER_ID).score(["a", "b"], ["a", "b", "c"])
    assert raised.value.param == "text_2"
    with pytest.raises(RequestError, match="no chat model"):
        make(EMBEDDING_ID).generate("hi")
    assert llm.generate("hi", SHORT)


def test_async_llm_has_the_same_answers(make: Callable[..., LLM]) -> None:
    async def program() -> None:
        async with AsyncLLM(MODEL) as llm:
            first, second = await asyncio.gather(llm.generate("hi", SHORT), llm.chat(USER, SHORT))
            assert first[0].outputs == make().generate("hi", SHORT)[0].outputs
            chunks = [chunk async for chunk in llm.stream_chat(USER, SHORT)]
            assert "".join(chunk.text for chunk in chunks) == second[0].outputs[0].text
        with pytest.raises(InfrsError, match="not open"):
            await llm.generate("hi", SHORT)

    asyncio.run(program())


def test_settings_are_those_of_the_server() -> None:
    model, engine = to_settings("m", "int8", "main", "here", {"threads": 2, "tool_format": "hermes"})
    assert (model.model_id, model.dtype, model.cache_dir, model.tool_format) == ("m", "int8", Path("here"), "hermes")
    assert engine.threads == 2
    for name, value, words in (
        ("thread", 1, "did you mean threads"),
        ("threads", "2", "threads is '2'"),
        ("port", 1, "port is no setting"),
    ):
        with pytest.raises(ConfigError, match=words):
            to_settings("m", "auto", "main", None, {name: value})
    with pytest.raises(ConfigError, match=r"model\.draft needs engine\.speculation"):
        to_settings("m", "int8", "main", None, {"draft": "int4", "speculation": False})


def test_a_failed_load_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SystemExit(3)

    before = threads()
    monkeypatch.setattr("infrs.llm.model_settings.find_or_export", fail)
    with pytest.raises(ExportError, match="ended with code 3"):
        LLM("no/model")
    assert threads() == before
    with pytest.raises(ExportError):
        resolve(to_settings("no/model", "auto", "main", None, {})[0])
    assert async_llm.DEFAULT_TIMEOUT > 0
