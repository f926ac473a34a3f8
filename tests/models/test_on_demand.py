"""Models that are loaded for a request, unloaded for others, and replaced, with models that are fakes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from fake_server import MANIFEST, FakeEngine, byte_tokenizer, served, synthetic_model
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import greedy
from test_registry import ask, context, run, tokens

from infrs.config.settings import EngineSettings
from infrs.core import RequestContext
from infrs.errors import (
    BundleError,
    EngineError,
    ModelLoadError,
    OutOfMemoryError,
    QueueFullError,
    RequestTimeoutError,
)
from infrs.metrics import Metrics
from infrs.models.loaded import LoadedModel
from infrs.models.registry import ModelRegistry, ModelState
from infrs.models.residency.spec import Found, ModelSpec
from infrs.models.served import ServedChatModel

SETTINGS = EngineSettings(max_num_seqs=2, max_queue=6, max_model_len=256)
OVER = EngineError("over")
TOKENIZER = byte_tokenizer([bytes([byte]) for byte in range(256)])
_numbers = itertools.count()


class Disk:
    """The files of one model: each opening counts, may wait, and may fail. A new version is another copy."""

    def __init__(self, num_bytes: int = 10, *, is_fake: bool = False) -> None:
        """is_fake: the engine is a fake, which opens in no time, and its tokens are 0, 1, 2 and so on."""
        self.num_bytes, self.is_fake, self.version, self.num_opened = num_bytes, is_fake, 1, 0
        self.may_open = threading.Event()
        self.may_open.set()
        self.error: Exception | None = None

    def find(self) -> Found:
        return Found(self.open, self.num_bytes, self.version)

    def open(self, settings: EngineSettings) -> LoadedModel:
        assert self.may_open.wait(30)
        self.num_opened += 1
        if self.error is not None:
            raise self.error
        if self.is_fake:
            return served(FakeEngine(settings.max_num_seqs, settings.max_queue, 256, 0.0), TOKENIZER, MANIFEST)
        return synthetic_model(settings.max_num_seqs, settings.max_queue, settings.max_model_len, exact=False)


def add(registry: ModelRegistry, name: str, disk: Disk, keep_alive: float = -1.0, *, is_pinned: bool = False) -> None:
    spec = ModelSpec(
        name, disk.find, disk.find(), SETTINGS, kind=ServedChatModel, keep_alive=keep_alive, is_pinned=is_pinned
    )
    registry.add(spec)


async def answer(registry: ModelRegistry, name: str, count: int = 5) -> list[int]:
    async with registry.use_chat(name, context()) as model:
        request = replace(ask([5, 6], count), request_id=f"ask-{next(_numbers)}")
        stream = model.submit([request], context(), 30.0)
        try:
            return [token async for deltas in stream for delta in deltas for token in delta.token_ids]
        finally:
            stream.close()


def states(registry: ModelRegistry) -> list[str]:
    return [entry.state.value for entry in registry.entries]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # for the sake of any condition
            await asyncio.sleep(0.005)


def test_requests_share_one_load() -> None:
    disk = Disk()

    async def scenario(registry: ModelRegistry) -> None:
        add(registry, "a", disk)
        assert states(registry) == ["unloaded"]
        assert await asyncio.gather(*(answer(registry, "a") for _ in range(4))) == [greedy([5, 6], 5)] * 4
        assert disk.num_opened == 1
        assert states(registry) == ["ready"]

    run(scenario)


def test_a_request_that_ends_early_does_not_end_the_load_of_others() -> None:
    disk = Disk()

    async def scenario(registry: ModelRegistry) -> None:
        add(registry, "a", disk)
        disk.may_open.clear()
        gone, stays = (asyncio.create_task(answer(registry, "a")) for _ in range(2))
        await until(lambda: states(registry) == ["loading"])
        gone.cancel()
        disk.may_open.set()
        assert await stays == greedy([5, 6], 5)
        assert gone.cancelled()
        assert disk.num_opened == 1

    run(scenario)


@pytest.mark.parametrize("error", [BundleError("/secret/path is altered"), RuntimeError("/secret/path")])
def test_a_failed_load_fails_all_requests_and_is_tried_again(error: Exception) -> None:
    disk = Disk()
    disk.error = error

    async def scenario(registry: ModelRegistry) -> None:
        add(registry, "a", disk)
        failures = await asyncio.gather(*(answer(registry, "a") for _ in range(3)), return_exceptions=True)
        assert {str(each) for each in failures} == {"a could not be loaded; the log of the server gives the reason"}
        assert all(isinstance(each, ModelLoadError) for each in failures)
        assert (disk.num_opened, states(registry)) == (1, ["failed"])
        disk.error = None
        assert await answer(registry, "a") == greedy([5, 6], 5)

    run(scenario)


def test_the_wait_for_a_load_is_bounded() -> None:
    disk = Disk()

    async def scenario(registry: ModelRegistry) -> None:
        add(registry, "a", disk)
        disk.may_open.clear()
        registry.queue_timeout = 0.05
        with pytest.raises(RequestTimeoutError, match=r"a was not loaded within the 0\.05 s"):
            await answer(registry, "a")
        registry.queue_timeout = 30.0
        with pytest.raises(RequestTimeoutError, match=r"the answer took longer than the 0\.01 s"):
            async with registry.use_chat("a", RequestContext.start("r", "", 0.01)):
                pass
        waiting = [asyncio.create_task(answer(registry, "a")) for _ in range(32)]
        await asyncio.sleep(0.05)
        ended = [task for task in waiting if task.done()]
        assert ended
        assert all(isinstance(task.exception(), QueueFullError) for task in ended)
        with pytest.raises(QueueFullError, match=r"requests wait for a to load|requests of this API key"):
            registry.refuse_if_full(ServedChatModel, "tenant")
        disk.may_open.set()
        answers = await asyncio.gather(*(task for task in waiting if task not in ended))
        assert answers == [greedy([5, 6], 5)] * len(answers)

    run(scenario)


def test_a_load_that_hangs_ends_and_frees_its_memory() -> None:
    stuck, other = Disk(), Disk()

    async def scenario(registry: ModelRegistry) -> None:
        registry.budget, registry.load_timeout = 10, 0.2
        add(registry, "a", stuck)
        add(registry, "b", other)
        stuck.may_open.clear()
        with pytest.raises(ModelLoadError, match=r"a was not loaded within server\.load_timeout, 0\.2 s; raise that"):
            await answer(registry, "a")
        assert [entry.held for entry in registry.entries] == [0, 0]
        registry.load_timeout = 30.0
        assert await answer(registry, "b") == greedy([5, 6], 5)
        with pytest.raises(ModelLoadError, match="an earlier load of a has not ended; restart the server"):
            await answer(registry, "a")  # a second thread would take more memory
        stuck.may_open.set()
        await until(lambda: stuck.num_opened == 1)
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(ModelLoadError):
                    assert await answer(registry, "a") == greedy([5, 6], 5)
                    return

    run(scenario)


def test_a_bundle_that_grows_is_not_asked_for_again_without_end() -> None:
    disk = Disk()
    num_found = itertools.count(1)

    def find() -> Found:
        return replace(disk.find(), num_bytes=10 * next(num_found))

    async def scenario(registry: ModelRegistry) -> None:
        registry.budget = 10_000
        registry.add(ModelSpec("a", find, find(), SETTINGS, kind=ServedChatModel))
        with pytest.raises(ModelLoadError, match="the files of a keep changing; try again once its export has ended"):
            await answer(registry, "a")
        assert next(num_found) < 10
        assert registry.entries[0].held == 0

    run(scenario)


def test_the_least_recently_used_model_makes_room() -> None:
    disks = {name: Disk() for name in "abc"}

    async def scenario(registry: ModelRegistry) -> None:
        registry.budget = 20
        for name, disk in disks.items():
            add(registry, name, disk)
        for name in "ab":
            await answer(registry, name)
        await answer(registry, "a")
        assert await answer(registry, "c") == greedy([5, 6], 5)
        assert states(registry) == ["ready", "unloaded", "ready"]
        assert await answer(registry, "b") == greedy([5, 6], 5)
        assert states(registry) == ["unloaded", "ready", "ready"]

    run(scenario)


def test_a_model_that_streams_stays_until_it_is_idle() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        registry.budget = 10
        add(registry, "a", Disk())
        add(registry, "b", Disk())
        begun = asyncio.Event()
        model = await registry.ensure_loaded("a")
        assert isinstance(model, ServedChatModel)
        streaming = asyncio.create_task(tokens(model, [5, 6], 240, begun))
        await begun.wait()
        waiting = asyncio.create_task(answer(registry, "b"))
        assert await streaming == greedy([5, 6], 240)
        assert await waiting == greedy([5, 6], 5)
        assert states(registry) == ["unloaded", "ready"]

    run(scenario)


def test_a_model_that_cannot_fit_is_refused_with_figures() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        registry.budget = 100 << 20
        add(registry, "pinned", Disk(60 << 20), is_pinned=True)
        add(registry, "large", Disk(50 << 20))
        await registry.ensure_loaded("pinned")
        message = "large needs up to 51 MiB, but models may take 100 MiB together, of which it can have 40; lower"
        with pytest.raises(OutOfMemoryError, match=message):
            await answer(registry, "large")
        assert states(registry) == ["ready", "failed"]

    run(scenario)


def test_an_idle_model_expires() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        add(registry, "a", Disk(), keep_alive=0.0)
        add(registry, "b", Disk(), keep_alive=0.2)
        add(registry, "c", Disk(), keep_alive=0.0, is_pinned=True)
        for name in "abc":
            assert await answer(registry, name) == greedy([5, 6], 5)
        assert registry.entries[0].state is not ModelState.READY
        await until(lambda: states(registry) == ["unloaded", "unloaded", "ready"])
        assert await answer(registry, "a") == greedy([5, 6], 5)

    run(scenario)


def test_a_new_bundle_replaces_the_old_one_without_ending_a_stream() -> None:
    disk, metrics = Disk(), Metrics()

    async def scenario(registry: ModelRegistry) -> None:
        add(registry, "a", disk)
        old = await registry.ensure_loaded("a")
        assert isinstance(old, ServedChatModel)
        assert await registry.ensure_loaded("a") is old  # the same files
        begun = asyncio.Event()
        streaming = asyncio.create_task(tokens(old, [5, 6], 240, begun))
        await begun.wait()
        disk.version = 2
        new = await registry.ensure_loaded("a")
        assert new is not old
        assert await answer(registry, "a") == greedy([5, 6], 5)
        assert await streaming == greedy([5, 6], 240)
        await until(lambda: not registry.entries[0].retired)
        assert registry.entries[0].state is ModelState.READY
        assert await registry.ensure_loaded("a", reload=True) is not new
        assert disk.num_opened == 3
        assert 'infrs_requests_running{model="a"}' in metrics.render().decode()
        await until(lambda: registry.entries[0].held == disk.num_bytes)

    run(scenario, metrics)


def test_a_failed_replacement_leaves_the_old_model() -> None:
    disk = Disk()

    async def scenario(registry: ModelRegistry) -> None:
        add(registry, "a", disk)
        old = await registry.ensure_loaded("a")
        disk.version, disk.error = 2, BundleError("altered")
        with pytest.raises(BundleError, match="altered"):
            await registry.ensure_loaded("a")
        assert registry.find("a") is old
        assert await answer(registry, "a") == greedy([5, 6], 5)

    run(scenario)


def test_a_model_that_fails_is_loaded_again() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        for name in "ab":
            add(registry, name, Disk())
        first = await registry.ensure_loaded("a")
        await registry.ensure_loaded("b")
        registry.fail(first, EngineError("the engine of a has failed"))
        assert await answer(registry, "b") == greedy([5, 6], 5)
        assert await answer(registry, "a") == greedy([5, 6], 5)
        assert registry.find("a") is not first

    run(scenario)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "ask", "unload", "reload", "cancel", "break", "mend"]), st.integers(0, 3)),
    max_size=16,
)


@settings(max_examples=12, deadline=None)
@given(_STEPS, st.sampled_from([10, 20, 30]), st.sampled_from([-1.0, 0.0]))
def test_any_sequence_keeps_the_budget_and_answers_every_request(
    steps: list[tuple[str, int]], budget: int, keep_alive: float
) -> None:
    disks = [Disk(is_fake=True) for _ in range(4)]

    async def scenario(registry: ModelRegistry) -> None:
        registry.budget = budget
        for number, disk in enumerate(disks):
            add(registry, str(number), disk, keep_alive)
        requests: list[asyncio.Task[list[int]]] = []
        others: list[asyncio.Task[object]] = []
        for operation, number in steps:
            match operation:
                case "ask":
                    requests.append(asyncio.create_task(answer(registry, str(number), 3)))
                case "unload":
                    others.append(asyncio.create_task(registry.unload(str(number), 30.0)))
                case "reload":
                    others.append(asyncio.create_task(registry.ensure_loaded(str(number), reload=True)))
                case "cancel" if requests:
                    requests[number % len(requests)].cancel()
                case "break" | "mend":
                    disks[number].error = BundleError("altered") if operation == "break" else None
            await asyncio.sleep(0)
            assert sum(entry.held for entry in registry.entries) <= budget
        done = await asyncio.gather(*requests, return_exceptions=True)
        await asyncio.gather(*others, return_exceptions=True)
        for result in done:
            assert result == [0, 1, 2] or isinstance(result, asyncio.CancelledError | ModelLoadError | QueueFullError)
        for disk in disks:
            disk.error = None
        for number in range(4):  # no model is stuck
            assert await answer(registry, str(number), 3) == [0, 1, 2]
        assert sum(entry.held for entry in registry.entries) <= budget

    run(scenario)
