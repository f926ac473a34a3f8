"""Several models in one process, through the Python API: no HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable

import pytest
from fake_encoder import embedding_model, formula
from fake_process import metric
from fake_server import byte_tokenizer, synthetic_model
from synthetic import greedy

from infrs.config.settings import EngineSettings
from infrs.core import Request, RequestContext, SamplingParams
from infrs.errors import (
    BundleError,
    ConfigError,
    EngineError,
    InfrsError,
    ModelLoadingError,
    ModelNotFoundError,
    ModelUnloadedError,
    QueueFullError,
    RequestError,
)
from infrs.metrics import Metrics
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.encoders.served import ServedEmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.models.registry import ModelRegistry, ModelState
from infrs.models.served import ServedChatModel

SMALL = EngineSettings(max_num_seqs=1, max_queue=1, max_model_len=64)
LARGE = EngineSettings(max_num_seqs=4, max_queue=8, max_model_len=256)
OVER = EngineError("over")


def open_chat(settings: EngineSettings) -> LoadedModel:
    return synthetic_model(settings.max_num_seqs, settings.max_queue, settings.max_model_len, exact=False)


def open_embedding(settings: EngineSettings) -> EmbeddingModel:
    return embedding_model(byte_tokenizer([bytes([byte]) for byte in range(256)]), 0.0)


def context() -> RequestContext:
    return RequestContext.start("request", "tenant", 30.0)


def ask(prompt: list[int], count: int) -> Request:
    return Request(f"ask-{prompt}", tuple(prompt), count, SamplingParams(temperature=0), ignore_eos=True)


async def tokens(
    model: ServedChatModel, prompt: list[int], count: int, begun: asyncio.Event | None = None
) -> list[int]:
    """Return the token ids of a streamed answer. `begun` is set when the first ones have arrived."""
    received: list[int] = []
    with model.admitted(""):
        stream = model.submit([ask(prompt, count)], context(), 30.0)
        try:
            async for deltas in stream:
                received += [token for delta in deltas for token in delta.token_ids]
                if begun is not None:
                    begun.set()
        finally:
            stream.close()
    return received


def run(scenario: Callable[[ModelRegistry], Awaitable[None]], metrics: Metrics | None = None) -> None:
    async def with_registry() -> None:
        registry = ModelRegistry(metrics)
        try:
            await asyncio.wait_for(scenario(registry), 60)
        finally:
            await registry.close(OVER)

    asyncio.run(with_registry())


def test_two_chat_models_with_their_own_settings_stream_together() -> None:
    metrics = Metrics()

    async def scenario(registry: ModelRegistry) -> None:
        await registry.load("a/small", open_chat, SMALL)
        await registry.load("b/large", open_chat, LARGE, aliases=["large"])
        small, large = registry.find_chat("a/small"), registry.find_chat("large")
        assert [model.service.snapshot().num_rows for model in (small, large)] == [1, 4]
        assert [model.model.max_model_len for model in (small, large)] == [64, 256]
        assert [model.service.snapshot().max_queue for model in (small, large)] == [1, 8]
        prompts = [[5, 6], [7, 8, 9]]
        answers = await asyncio.gather(
            tokens(small, prompts[0], 40), *(tokens(large, [n, *prompts[1]], 200) for n in range(4))
        )
        assert answers == [greedy(prompts[0], 40), *(greedy([n, *prompts[1]], 200) for n in range(4))]
        text = metrics.render().decode()
        assert metric(text, 'infrs_queue_wait_seconds_count{model="a/small"}') == 1
        assert metric(text, 'infrs_queue_wait_seconds_count{model="b/large"}') == 4

    run(scenario, metrics)


def engine_threads() -> int:
    """Return the number of running engines. Other threads, such as those of asyncio's pool, begin at any time."""
    return sum(thread.name == "infrs-engine" for thread in threading.enumerate())


def test_a_model_is_unloaded_while_another_streams() -> None:
    metrics = Metrics()

    async def scenario(registry: ModelRegistry) -> None:
        await registry.load("a/stays", open_chat, LARGE)
        await registry.load("b/goes", open_chat, LARGE)
        threads = engine_threads()
        stays, goes = registry.find_chat("a/stays"), registry.find_chat("b/goes")
        engine = weakref.ref(goes.service)
        both = [asyncio.Event(), asyncio.Event()]
        kept = asyncio.create_task(tokens(stays, [5, 6], 240, both[0]))
        cut = asyncio.create_task(tokens(goes, [5, 6], 240, both[1]))
        for begun in both:
            await begun.wait()
        assert not kept.done()
        await registry.remove("b/goes")
        with pytest.raises(ModelUnloadedError, match="b/goes was unloaded"):
            await cut
        assert await kept == greedy([5, 6], 240)
        with pytest.raises(ModelUnloadedError, match="b/goes was unloaded"):
            goes.submit([ask([5], 1)], context(), 30.0)
        with pytest.raises(ModelNotFoundError, match="'b/goes' is not served here; this server serves a/stays"):
            registry.find_chat("b/goes")
        assert engine_threads() < threads
        assert 'model="b/goes"' not in metrics.render().decode()
        del goes, cut
        gc.collect()
        assert engine() is None

    run(scenario, metrics)


def test_an_unloaded_model_lets_its_requests_finish_within_the_drain_time() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        await registry.load("a", open_chat, LARGE)
        running = asyncio.create_task(tokens(registry.find_chat("a"), [5], 100))
        await asyncio.sleep(0)
        unloading = asyncio.create_task(registry.remove("a", drain_seconds=30.0))
        await asyncio.sleep(0)
        assert [entry.state for entry in registry.entries] == [ModelState.UNLOADING]
        with pytest.raises(ModelUnloadedError, match="a is being unloaded"):
            registry.find_chat("a")
        assert await running == greedy([5], 100)
        await unloading
        await registry.load("a", open_chat, LARGE)

    run(scenario)


def test_the_states_of_a_model() -> None:
    release = threading.Event()

    def slow(settings: EngineSettings) -> LoadedModel:
        assert release.wait(30)
        return open_chat(settings)

    def broken(settings: EngineSettings) -> LoadedModel:
        raise BundleError("the bundle is altered")

    async def scenario(registry: ModelRegistry) -> None:
        loading = asyncio.create_task(registry.load("a", slow, SMALL, aliases=["x"]))
        await asyncio.sleep(0)
        assert registry.entries[0].state is ModelState.LOADING
        assert registry.models == []
        for operation in (lambda: registry.find("x"), lambda: registry.find_encoder(ServedEmbeddingModel, "a")):
            with pytest.raises(ModelLoadingError):
                operation()
        with pytest.raises(ModelLoadingError):
            await registry.unload("a")
        for name, aliases in (("a", []), ("x", []), ("b", ["x"])):
            with pytest.raises(ConfigError, match="already names a model"):
                await registry.load(name, open_chat, SMALL, aliases)
        release.set()
        assert await loading is registry.find("x") is registry.find_chat("a") is registry.find_chat(None)
        with pytest.raises(BundleError):
            await registry.load("b", broken)
        assert registry.entries[1].state is ModelState.FAILED
        with pytest.raises(BundleError, match="altered"):
            registry.find("b")
        await registry.load("b", open_chat, SMALL)
        assert [entry.state for entry in registry.entries] == [ModelState.READY] * 2
        await registry.remove("x")
        assert [model.model_id for model in registry.models] == ["b"]

    run(scenario)


def test_each_model_admits_its_own_number_of_requests() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        await registry.load("a", open_chat, SMALL)
        await registry.load("b", open_chat, LARGE)
        small = registry.find_chat("a")
        with small.admitted(""), small.admitted(""):
            with pytest.raises(QueueFullError, match="1 requests run and 1 wait"), small.admitted(""):
                pass
            registry.refuse_if_full(ServedChatModel, "")  # the other one has room
            assert registry.num_in_flight == 2
            assert not await registry.wait_idle(0.01)
            await registry.remove("b")
            with pytest.raises(QueueFullError):
                registry.refuse_if_full(ServedChatModel, "")
        assert await registry.wait_idle(0.01)

    run(scenario)


def test_a_key_leaves_places_for_other_keys() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        await registry.load("a", open_chat, EngineSettings(max_num_seqs=4, max_queue=16))
        model = registry.find_chat("a")

        def fill(tenant: str) -> int:
            """Admit as many requests as the model takes and return their number."""
            for count in range(100):
                try:
                    admitted.enter_context(model.admitted(tenant))
                except QueueFullError:
                    return count
            return 100

        with contextlib.ExitStack() as admitted:
            assert [fill(tenant) for tenant in ("first", "second", "third", "first")] == [16, 4, 0, 0]
        with contextlib.ExitStack() as admitted:
            assert fill("") == model.num_places == 20  # a server without keys
        assert not model.num_in_flight

    run(scenario)


def test_requests_for_the_wrong_kind_of_model_or_for_none() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        await registry.load("e", open_embedding, SMALL)
        with pytest.raises(RequestError, match="this server has no chat model; it serves e for POST /v1/embeddings"):
            registry.find_chat(None)
        with pytest.raises(RequestError, match="no chat model"):
            registry.refuse_if_full(ServedChatModel, "")
        await registry.load("c", open_chat, SMALL)
        assert [model.model_id for model in registry.models] == ["c", "e"]
        cases: list[tuple[Callable[[], object], type[InfrsError], str]] = [
            (lambda: registry.find_chat("e"), RequestError, "e is an embedding model, which POST /v1/embeddings takes"),
            (
                lambda: registry.find_encoder(ServedEmbeddingModel, "c"),
                RequestError,
                "c is a chat model, which POST /v1/chat/completions takes; this request needs an embedding model: e",
            ),
            (lambda: registry.find_chat("z"), ModelNotFoundError, "'z' is not served here; this server serves c"),
            (
                lambda: registry.find_encoder(ServedEmbeddingModel, "z"),
                ModelNotFoundError,
                "'z' is not served here; this server serves e",
            ),
            (lambda: registry.find("z"), ModelNotFoundError, "this server serves c, e"),
        ]
        for find, error, message in cases:
            with pytest.raises(error, match=message) as caught:
                find()
            assert caught.value.param == "model"
        await registry.load("d", open_chat, SMALL)
        with pytest.raises(RequestError, match="several chat models; name one of c, d"):
            registry.find_chat(None)

    run(scenario)


def test_an_embedding_model_without_http() -> None:
    async def scenario(registry: ModelRegistry) -> None:
        await registry.load("e", open_embedding, SMALL)
        model = registry.find_encoder(ServedEmbeddingModel, "e")
        assert isinstance(model, ServedEmbeddingModel)
        with model.admitted(""):
            [vector] = await model.compute([[1, 2, 3]], context())
        assert vector.tolist() == formula([1, 2, 3]).tolist()
        await registry.remove("e")
        assert registry.entries == []

    run(scenario)
