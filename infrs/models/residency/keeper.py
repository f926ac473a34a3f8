"""Load and unload models as `residency.decide` says, and free their memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from functools import partial

from infrs.errors import InfrsError, ModelLoadError, ModelUnloadedError, OutOfMemoryError, RequestError
from infrs.machine.memory import return_free_memory
from infrs.metrics import Metrics
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.encoders.served import ServedClassifier, ServedEmbeddingModel
from infrs.models.load_limit import limit_on_demand
from infrs.models.loaded import LoadedModel
from infrs.models.residency.decide import Load, ModelState, Refuse, decide, next_expiry
from infrs.models.residency.model_entry import RegistryEntry
from infrs.models.residency.own_thread import OwnThread
from infrs.models.residency.spec import AnyModel, Found
from infrs.models.served import Observe, ServedChatModel, ServedModel, Service

logger = logging.getLogger("infrs.models")


_DRAIN_SECONDS = 86400.0  # of a replaced copy: the maximum of `server.request_timeout`
_CLOSE_SECONDS = 10.0  # for unloads that have begun
_POLL_SECONDS = 0.05
_POLLS = 20


class Keeper:
    """Keeps the models of a registry within the budget. Every event calls `tick`, which carries out the decision.

    budget: bytes of all models together, None for no bound. load_timeout: seconds of a load, None for no bound.
    """

    def __init__(self, entries: Mapping[str, RegistryEntry], metrics: Metrics, observe: Observe) -> None:
        self.budget: int | None = None
        self.load_timeout: float | None = None
        self._entries = entries
        self._metrics, self._observe = metrics, observe
        self._opening: dict[RegistryEntry, asyncio.Task[None]] = {}
        self._freeing: dict[RegistryEntry, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: dict[RegistryEntry, OwnThread[tuple[Found, AnyModel | None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def tick(self) -> None:
        """Decide and act. Called after each event, and when the first idle model expires."""
        if self._is_closed:
            return
        residents = [entry.resident() for entry in self._entries.values()]
        for action in decide(residents, self.budget, time.monotonic()):
            entry = self._entries[action.model_id]
            if isinstance(action, Load):
                self._load(entry)
            elif isinstance(action, Refuse):
                self._refuse(entry, action)
                asyncio.get_running_loop().call_soon(self.tick)  # for the next model that requests wait for
            else:
                reason = f"no request for {entry.keep_alive:g} s" if action.expired else "another model needs room"
                logger.info("%s: unloading it: %s", entry.model_id, reason)
                self._free(entry, 0.0)
        self._set_timer()

    async def want(self, entry: RegistryEntry) -> Exception | None:
        """Wait for a load of a model, which all requests share. Return its error, None if it succeeded."""
        future = entry.want()
        self.tick()
        return await future

    async def has_changed(self, entry: RegistryEntry) -> bool:
        """Return whether the files of a loaded model are not those on disk."""
        found = await asyncio.to_thread(entry.spec.find)
        if entry.found is not None and found.version == entry.found.version:
            return False
        entry.found = found
        return True

    async def unload(self, entry: RegistryEntry, drain_seconds: float) -> None:
        """Free a model, and wait until that is done. It continues if the caller is cancelled."""
        if entry.state is ModelState.FAILED:
            entry.state, entry.error = ModelState.UNLOADED, None
        elif entry.state is ModelState.READY:
            self._free(entry, drain_seconds)
        if (task := self._freeing.get(entry)) is not None:
            await asyncio.shield(task)

    async def expire(self, entry: RegistryEntry) -> None:
        """Free a model once no request needs it, and wait for that if none does now.

        Raises RequestError for a pinned model.
        """
        if entry.spec.is_pinned:
            raise RequestError(
                f"keep_alive: {entry.model_id} is pinned, so only POST /v1/models/unload unloads it", param="keep_alive"
            )
        is_loaded = entry.state not in (ModelState.UNLOADED, ModelState.FAILED)
        entry.keep_alive = 0.0 if is_loaded else entry.spec.keep_alive
        self.tick()
        if (task := self._freeing.get(entry)) is not None:
            await asyncio.shield(task)

    def fail(self, entry: RegistryEntry, error: InfrsError) -> None:
        """Free a model that no longer works. It is loaded again for the next request, or now if it loads at start."""
        if entry.state is ModelState.READY and entry.served is not None:
            entry.served.fail_all(error)
            self._free(entry, 0.0, error)

    def abandon(self, entry: RegistryEntry) -> None:
        """Stop to wait for a copy that loads. Its thread ends by itself."""
        if (task := self._opening.get(entry)) is not None:
            task.cancel()

    async def close(self, error: InfrsError) -> None:
        """Load nothing more, and unload all models. Requests in flight and those that wait fail with `error`."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for opening in self._opening.values():
            opening.cancel()
        for entry in self._entries.values():
            entry.loaded(error)
            for copy in entry.copies:
                copy.fail_all(error)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        ready = [entry.served for entry in self._entries.values() if entry.state is ModelState.READY]
        await asyncio.gather(*(served.drain(0, error) for served in ready if served is not None))

    def _load(self, entry: RegistryEntry) -> None:
        entry.begin_load()
        self._opening[entry] = self._spawn(self._open(entry, entry.needed))

    async def _open(self, entry: RegistryEntry, reserved: int) -> None:
        """Open a copy of a model in a thread, and let its requests use it."""
        try:
            found, model = await self._opened(entry, reserved)
            if model is None:
                entry.found = found
                entry.postpone(reserved)
            else:
                self._serve(entry, model, found, reserved)
        except asyncio.CancelledError:
            entry.fail_load(ModelUnloadedError(f"{entry.model_id} is no longer needed"), reserved)
            raise
        except Exception as error:  # of any library: the model is at fault, not the server
            entry.fail_load(error, reserved)
        finally:
            del self._opening[entry]
            self.tick()

    async def _opened(self, entry: RegistryEntry, reserved: int) -> tuple[Found, AnyModel | None]:
        """Return a model as it is on disk, and open it unless it needs more memory than is reserved for it.

        Raises ModelLoadError after `load_timeout` seconds. The thread cannot be interrupted, so no other load of the
        model begins until it ends by itself.
        """
        previous = self._threads.get(entry)
        if previous is not None and previous.is_running:
            raise ModelLoadError(f"an earlier load of {entry.model_id} has not ended; restart the server")
        most = None if self.budget is None else reserved
        with limit_on_demand(self.load_timeout, entry.model_id):
            thread = OwnThread(partial(_find_and_open, entry, most), "infrs-load", _discard)
            self._threads[entry] = thread
            try:
                async with asyncio.timeout(self.load_timeout) as limit:
                    result = await thread.result()
            except TimeoutError:
                if not limit.expired():
                    raise
                raise ModelLoadError(
                    f"{entry.model_id} was not loaded within server.load_timeout, {self.load_timeout:g} s; "
                    "raise that, or export the model again"
                ) from None
            finally:
                if not thread.is_running:
                    del self._threads[entry]
        return result

    def _serve(self, entry: RegistryEntry, model: AnyModel, found: Found, reserved: int) -> None:
        model = replace(model, model_id=entry.model_id)
        served: ServedModel
        if isinstance(model, LoadedModel):
            served = ServedChatModel(model, self._metrics, self._observe)
        elif isinstance(model, EmbeddingModel):
            served = ServedEmbeddingModel(model, entry.spec.settings, self._metrics)
        else:
            served = ServedClassifier(model, entry.spec.settings, self._metrics)
        served.on_idle = self.tick
        replaced = entry.serve(served, found, reserved)
        if replaced is not None:
            self._spawn(self._retire(entry, *replaced))

    async def _retire(self, entry: RegistryEntry, served: ServedModel, num_bytes: int) -> None:
        """Free a copy that another one has replaced, once its requests have finished."""
        error = ModelUnloadedError(f"{entry.model_id} was replaced before the answer was complete")
        await served.drain(_DRAIN_SECONDS, error, is_replaced=True)
        entry.retired.remove(served)
        alive = weakref.ref(served.service)
        del served
        await _reclaim(alive)
        entry.held -= num_bytes
        self.tick()

    def _free(self, entry: RegistryEntry, drain_seconds: float, failure: InfrsError | None = None) -> None:
        entry.state = ModelState.UNLOADING
        entry.error = failure or ModelUnloadedError(f"{entry.model_id} is being unloaded; use another model")
        self._freeing[entry] = self._spawn(self._unload(entry, drain_seconds, failure))

    async def _unload(self, entry: RegistryEntry, drain_seconds: float, failure: InfrsError | None) -> None:
        try:
            if entry.served is not None:
                error = ModelUnloadedError(f"{entry.model_id} was unloaded before the answer was complete")
                await entry.served.drain(drain_seconds, failure or error)
                alive = weakref.ref(entry.served.service)
                entry.served = None
                await _reclaim(alive)
        finally:
            entry.freed(failure)
            del self._freeing[entry]
            if failure is not None and entry.spec.at_start:
                entry.want()
            self.tick()

    def _refuse(self, entry: RegistryEntry, action: Refuse) -> None:
        entry.refuse(
            OutOfMemoryError(
                f"{entry.model_id} needs up to {(action.needed >> 20) + 1} MiB, but models may take "
                f"{(self.budget or 0) >> 20} MiB together, of which it can have {action.free >> 20}; lower "
                "engine.max_num_seqs, engine.max_model_len or engine.kv_budget_mb, or raise server.models_memory_mb"
            )
        )

    def _set_timer(self) -> None:
        """Wake up when the first idle model expires."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = next_expiry([entry.resident() for entry in self._entries.values()])
        if due is not None:
            delay = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self.tick)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _find_and_open(entry: RegistryEntry, most: int | None) -> tuple[Found, AnyModel | None]:
    """Find a model on disk, and open it unless it needs more than `most` bytes."""
    found = entry.spec.find()
    if most is not None and found.num_bytes > most:
        return found, None
    return found, found.open_model(entry.spec.settings)


def _discard(opened: tuple[Found, AnyModel | None]) -> None:
    """Close the files of a model that came too late."""
    _, model = opened
    if model is not None and model.files is not None:
        model.files.close()


async def _reclaim(service: weakref.ref[Service]) -> None:
    """Give the memory of a stopped service back to the system, once the last reference to it is gone."""
    gc.unfreeze()  # the collector can free the model too; see `infrs.models.load.load_models`
    for _ in range(_POLLS):
        if service() is None:
            break
        await asyncio.sleep(_POLL_SECONDS)
    else:
        await asyncio.to_thread(gc.collect)
    await asyncio.to_thread(return_free_memory)
