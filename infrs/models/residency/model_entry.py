"""One model of a registry: its state, its copies and the requests that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator

from infrs.errors import (
    ConfigError,
    DrainingError,
    EngineError,
    InfrsError,
    ModelLoadError,
    ModelUnloadedError,
    OutOfMemoryError,
)
from infrs.models.residency.decide import ModelState, Resident
from infrs.models.residency.spec import Found, ModelSpec
from infrs.models.served import ServedModel, check_places

logger = logging.getLogger("infrs.models")

_FOR_CLIENTS = (OutOfMemoryError, ModelLoadError, ModelUnloadedError, DrainingError)
_MAX_POSTPONED = 3  # times in a row


class RegistryEntry:
    """One model of a registry.

    served: the model while it is ready. error: why its last load failed. found: the files of the copy that is loaded,
    or that loads. held: the bytes of all copies. retired: replaced copies with requests in flight. waiting: the
    requests that wait for it to load, by tenant. keep_alive: seconds, until the model is unloaded; then that of the
    spec applies again.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.model_id = spec.model_id
        self.state = ModelState.UNLOADED
        self.served: ServedModel | None = None
        self.error: InfrsError | None = None
        self.found: Found | None = spec.found
        self.held = 0
        self.retired: list[ServedModel] = []
        self.is_removed = False
        self.is_opening = False
        self.wanted_since: float | None = None
        self.waiting: Counter[str] = Counter()
        self.keep_alive = spec.keep_alive
        self._loaded: asyncio.Future[Exception | None] | None = None
        self._kind = spec.kind
        self._created = int(time.time())
        self._reported: Exception | None = None
        self._served_bytes = 0
        self._num_postponed = 0

    @property
    def created(self) -> int:
        """Return when the copy was loaded, or else when the entry was made. Unix time in seconds."""
        return self.served.model.created if self.served is not None else self._created

    @property
    def aliases(self) -> frozenset[str]:
        """Return the other names of the model."""
        return self.spec.aliases

    @property
    def kind(self) -> type[ServedModel] | None:
        """Return whether it is a chat or an embedding model; None if that is not known before it is loaded."""
        return self._kind

    def may_be(self, kind: type[ServedModel]) -> bool:
        """Return whether the model is of a kind, or may be once it is loaded."""
        return self.kind in (None, kind)

    @property
    def needed(self) -> int:
        """Return the bytes of one copy."""
        return self.found.num_bytes if self.found is not None else 0

    @property
    def copies(self) -> list[ServedModel]:
        """Return the copies that run requests: the current one, and those that it has replaced."""
        return [*self.retired, *([] if self.served is None else [self.served])]

    @property
    def num_users(self) -> int:
        """Return the number of requests that run or wait."""
        return self.waiting.total() + sum(copy.num_in_flight for copy in self.copies)

    @property
    def expires_in(self) -> float | None:
        """Return in how many seconds the model is unloaded if no other request comes; None for never."""
        if self.spec.is_pinned or self.keep_alive < 0:
            return None
        is_idle = self.served is not None and not self.num_users
        since = self.served.last_used if is_idle and self.served is not None else time.monotonic()
        return max(0.0, since + self.keep_alive - time.monotonic())

    def resident(self) -> Resident:
        """Return what the decision on loads and unloads needs to know."""
        return Resident(
            model_id=self.model_id,
            state=self.state,
            needed=self.needed,
            held=self.held,
            is_opening=self.is_opening,
            wanted_since=self.wanted_since,
            num_users=self.num_users,
            last_used=self.served.last_used if self.served is not None else 0.0,
            keep_alive=self.keep_alive,
            is_pinned=self.spec.is_pinned,
        )

    def refuse_if_full(self, tenant: str) -> None:
        """Raise QueueFullError if the model admits no more requests of a tenant, or if too many wait for its load."""
        if self.served is not None and self.state is ModelState.READY:
            self.served.refuse_if_full(tenant)
            return
        settings = self.spec.settings
        check_places(self.waiting, settings.max_num_seqs + settings.max_queue, tenant, self._full)

    @contextlib.contextmanager
    def waiting_request(self, tenant: str) -> Iterator[None]:
        """Count a request as one that waits for the model to load. Raises QueueFullError."""
        self.refuse_if_full(tenant)
        self.waiting[tenant] += 1
        try:
            yield
        finally:
            self.waiting -= Counter((tenant,))
            if not self.waiting:
                self.wanted_since = None

    def until_loaded(self) -> asyncio.Future[Exception | None]:
        """Return a future with the error of the next load, None if it succeeds. Cancelling it affects no other."""
        if self._loaded is None or self._loaded.done():
            self._loaded = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._loaded)

    def want(self) -> asyncio.Future[Exception | None]:
        """Ask for a copy of the model. Return the future of its load; all requests share one."""
        future = self.until_loaded()
        if self.is_removed:
            self.loaded(self.error)
        elif self.wanted_since is None and not self.is_opening:
            self.wanted_since = time.monotonic()
        return future

    def begin_load(self) -> None:
        """Reserve the memory of a copy that loads now."""
        self.is_opening, self.wanted_since = True, None
        self.held += self.needed
        if self.state is not ModelState.READY:
            self.state, self.error = ModelState.LOADING, None

    def postpone(self, reserved: int) -> None:
        """Give back the memory of a copy that needs more than was reserved, and ask again.

        Raises ModelLoadError if its files keep growing.
        """
        self._num_postponed += 1
        if self._num_postponed > _MAX_POSTPONED:
            raise ModelLoadError(f"the files of {self.model_id} keep changing; try again once its export has ended")
        self._end_load(reserved)
        if self.state is ModelState.LOADING:
            self.state = ModelState.UNLOADED
        self.wanted_since = time.monotonic()

    def serve(self, served: ServedModel, found: Found, reserved: int) -> tuple[ServedModel, int] | None:
        """Use a copy for all new requests. Return the copy that it replaces and its bytes, or None."""
        replaced = None if self.served is None else (self.served, self._served_bytes)
        if self.served is not None:
            self.retired.append(self.served)
        self._end_load(0)
        self.served, self.found, self._served_bytes, self._kind = served, found, reserved, type(served)
        self.state, self.error = ModelState.READY, None
        self.loaded(None)
        return replaced

    def fail_load(self, error: Exception, reserved: int) -> None:
        """Report the error of a load to all that wait for it. A copy that is ready stays."""
        self._end_load(reserved)
        self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """End the wait of all requests with an error. A copy that is ready stays."""
        if self.state is not ModelState.READY:
            self.state = ModelState.FAILED
            self.error = error if isinstance(error, InfrsError) else EngineError(f"{self.model_id} could not be loaded")
        self.loaded(error)

    def freed(self, failure: InfrsError | None) -> None:
        """Note that the copy is unloaded, because of a failure or on purpose."""
        self.held -= self._served_bytes
        self._served_bytes = 0
        if not self.waiting:  # else it is that of a request that waits
            self.keep_alive = self.spec.keep_alive
        self.state, self.error = (ModelState.UNLOADED if failure is None else ModelState.FAILED), failure

    def _end_load(self, unused: int) -> None:
        self.is_opening = False
        self.held -= unused

    def loaded(self, error: Exception | None) -> None:
        """End the wait of all requests, with the error of the load or without."""
        self.wanted_since, self._num_postponed = None, 0
        if self._loaded is not None and not self._loaded.done():
            self._loaded.set_result(error)

    def refusal(self, error: Exception) -> InfrsError:
        """Return the error for a request that waited for a load that failed. Log the reason once."""
        if self._reported is not error:
            self._reported = error
            is_known = isinstance(error, InfrsError)
            logger.error("%s could not be loaded: %s", self.model_id, error, exc_info=None if is_known else error)
        if isinstance(error, ConfigError):
            return ModelLoadError(f"{self.model_id} could not be loaded: {error.message}")
        if isinstance(error, _FOR_CLIENTS):
            return error
        return ModelLoadError(f"{self.model_id} could not be loaded; the log of the server gives the reason")

    def _full(self) -> str:
        return f"{self.waiting.total()} requests wait for {self.model_id} to load"
