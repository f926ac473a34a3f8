"""Run the engine in a thread: requests in, deltas out. It depends on neither asyncio nor HTTP."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from infrs.core import Delta, FinishReason, Request, Usage
from infrs.engine.engine import Engine, as_failure
from infrs.engine.invariants import violations
from infrs.errors import EngineError, InfrsError, QueueFullError
from infrs.worker import Worker

logger = logging.getLogger(__name__)

Sink = Callable[[Delta], None]


class Observer(Protocol):
    """An observer of measurements, called on the engine's thread. Times are in seconds. Methods must not block."""

    def started(self, request_id: str, waited: float) -> None:
        """Record that a request got its first row, `waited` seconds after it was submitted."""

    def stepped(self, took: float, num_running: int) -> None:
        """Record the duration of a step and the number of sequences that have a row after it."""

    def violated(self) -> None:
        """Record that a rule of `infrs.engine.invariants` is broken."""


# A step that raises ends all requests. This many in a row mean that the engine itself is broken.
_MAX_FAILED_STEPS = 3
_MAX_TENANTS = 4  # that fill all rows and the queue


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The counts of the engine at one moment. Times are in seconds of the monotonic clock."""

    num_running: int
    num_waiting: int
    num_rows: int
    max_queue: int
    max_model_len: int
    num_steps: int
    last_progress: float
    threads: int = 1  # compute threads
    max_cache_bytes: int = 0  # the memory of keys and values once all rows are full
    kernels: str = ""  # the kernels of `infrs.native` that run the graph; empty if all are ONNX Runtime's
    num_draft_tokens: int = 0  # since the start
    num_accepted_tokens: int = 0  # draft tokens that were sampled
    num_model_draft_tokens: int = 0  # of those, from the draft model
    num_model_accepted_tokens: int = 0
    num_preemptions: int = 0  # since the start
    num_cached_tokens: int = 0  # computed tokens of the running sequences

    @property
    def num_open(self) -> int:
        """Return the number of sequences that run or wait."""
        return self.num_running + self.num_waiting


@dataclass(frozen=True, slots=True)
class _Pause:
    """A command to leave a request out of the steps, or to take it in again."""

    request_id: str
    paused: bool


@dataclass(slots=True)
class _Open:
    """The sink of a request, and the answers that have ended."""

    sink: Sink
    tenant: str
    num_choices: int
    submitted: float = field(default_factory=time.monotonic)
    started: bool = False
    cancelled: bool = False  # ends before the next step
    ended: set[int] = field(default_factory=set)  # indices of answers

    @property
    def num_left(self) -> int:
        """Return the number of answers that have not ended."""
        return self.num_choices - len(self.ended)


class EngineService(Worker):
    """A thread that runs an engine. All methods are thread-safe."""

    def __init__(self, engine: Engine, max_queue: int, cache_idle_timeout: float = 0.0, heartbeat: float = 1.0) -> None:
        """Prepare a thread for an engine.

        cache_idle_timeout: after this many idle seconds, the prefix cache gives its memory back. 0: never.
        heartbeat: the seconds between two signs of progress while every sequence is paused.
        """
        super().__init__("infrs-engine", failed="the engine has failed; restart the server")
        self._engine = engine
        self._max_queue = max_queue
        self._cache_idle_timeout = cache_idle_timeout
        self._heartbeat = heartbeat
        self._inbox: deque[Request | _Pause | str] = deque()  # requests to submit, ids to cancel
        self._is_blocked = False  # every sequence is paused or waits for the row of one: only a command changes that
        self._sinks: dict[str, _Open] = {}  # of every request that has not finished
        self._last_progress = time.monotonic()
        self.observer: Observer | None = None

    def submit(self, request: Request, sink: Sink) -> None:
        """Queue a request; `sink` gets its deltas on the engine's thread and must not block.

        A tenant can fill all rows and the queue with its answers. Others can still submit: all tenants together have
        four times as many. A cancelled request keeps no place of its tenant.
        Raises QueueFullError, DrainingError, or EngineError if the engine has failed.
        """
        with self._wake:
            self._check_open()
            places = self._engine.runner.num_rows + self._max_queue
            own = sum(
                each.num_left for each in self._sinks.values() if each.tenant == request.tenant and not each.cancelled
            )
            if own >= places or self._num_open >= _MAX_TENANTS * places:
                raise QueueFullError(f"{self._max_queue} requests are waiting already; try again in a moment")
            if request.request_id in self._sinks:
                raise EngineError(f"request id {request.request_id} is in use; send another one")
            self._sinks[request.request_id] = _Open(sink, request.tenant, request.num_choices)
            self._inbox.append(request)
            self._wake.notify()

    def cancel(self, request_id: str) -> None:
        """End a request before the next step. Does nothing if it has finished."""
        with self._wake:
            if (open_ := self._sinks.get(request_id)) is not None:
                open_.cancelled = True
                self._inbox.append(request_id)
                self._wake.notify()

    def set_paused(self, request_id: str, paused: bool) -> None:
        """Pause a request before the next step, or resume it. Does nothing if it has finished."""
        with self._wake:
            if request_id in self._sinks:
                self._inbox.append(_Pause(request_id, paused))
                self._wake.notify()

    def is_waiting(self, request_id: str) -> bool:
        """Return whether a request has neither had a row nor finished. A preempted one has had a row."""
        waiting = self._sinks.get(request_id)
        return waiting is not None and not waiting.started

    def snapshot(self) -> EngineStats:
        """Return the engine's counts."""
        running = list(self._engine.scheduler.running)
        num_running = len(running)
        return EngineStats(
            num_running=num_running,
            num_waiting=max(0, self._num_open - num_running),
            num_rows=self._engine.runner.num_rows,
            max_queue=self._max_queue,
            max_model_len=self._engine.runner.capacity,
            num_steps=self._engine.num_steps,
            last_progress=self._last_progress,
            threads=self._engine.runner.threads,
            max_cache_bytes=self._engine.max_cache_bytes,
            kernels=self._engine.runner.kernels,
            num_draft_tokens=self._engine.num_draft_tokens,
            num_accepted_tokens=self._engine.num_accepted_tokens,
            num_model_draft_tokens=self._engine.num_model_draft_tokens,
            num_model_accepted_tokens=self._engine.num_model_accepted_tokens,
            num_preemptions=self._engine.scheduler.placement.num_preemptions,
            num_cached_tokens=sum(sequence.tokens.num_computed for sequence in running),
        )

    def _work(self) -> None:
        failed_steps = 0
        while failed_steps < _MAX_FAILED_STEPS and self._wait_for_work():
            self._deliver(self._take_inbox())
            begun, num_steps = time.monotonic(), self._engine.num_steps
            self._is_blocked = False
            try:
                deltas = self._engine.step()
                failed_steps = 0
                self._is_blocked = self._engine.num_steps == num_steps and not self._engine.scheduler.is_idle
            except Exception as error:
                logger.exception("engine step failed")
                failed_steps += 1
                deltas = self._fail_all(as_failure(error))
            self._last_progress = time.monotonic()
            self._observe(begun, deltas)
            self._deliver(deltas)

    def _close(self, error: InfrsError) -> None:
        self._deliver(self._take_inbox())
        self._deliver(self._fail_all(error))

    def _fail_all(self, error: InfrsError) -> list[Delta]:
        """End every request that the engine has, including answers that lost their last delta in a failed step."""
        deltas = self._engine.fail_all(error)
        with self._wake:
            to_come = {request.request_id for request in self._inbox if isinstance(request, Request)}
            for request_id, open_ in self._sinks.items():
                if request_id not in to_come:
                    ended = {delta.index for delta in deltas if delta.request_id == request_id} | open_.ended
                    lost = set(range(open_.num_choices)) - ended
                    deltas += _failed(request_id, lost, error)
        return deltas

    def _observe(self, begun: float, deltas: Iterable[Delta]) -> None:
        """Report the requests that got their first row in a step, and the step."""
        running = self._engine.scheduler.running
        ids = {sequence.request.request_id for sequence in running} | {delta.request_id for delta in deltas}
        for request_id in ids:
            open_ = self._sinks[request_id]
            if not open_.started:
                open_.started = True
                if self.observer:
                    self.observer.started(request_id, begun - open_.submitted)
        if self.observer:
            self.observer.stepped(self._last_progress - begun, len(running))

    def _wait_for_work(self) -> bool:
        """Block until there is work. Return False when the thread must end."""
        if self._engine.scheduler.is_idle:
            self._check_invariants()
            if self._cache_idle_timeout and not self._wait(self._cache_idle_timeout) and self._engine.release_cache():
                logger.info("no request for %g s: the prefix cache gave its memory back", self._cache_idle_timeout)
        while not self._wait(self._heartbeat if self._is_blocked else None):
            self._last_progress = time.monotonic()
        return not self._stopping

    def _wait(self, timeout: float | None = None) -> bool:
        """Wait for work or the end of the thread, at most `timeout` seconds. Return whether there is any."""
        with self._wake:
            return self._wake.wait_for(self._has_work, timeout)

    def _has_work(self) -> bool:
        return bool(self._inbox) or self._stopping or not (self._is_blocked or self._engine.scheduler.is_idle)

    def _check_invariants(self) -> None:
        for violation in violations(self._engine):
            logger.critical("an invariant of the engine is broken: %s", violation)
            if self.observer:
                self.observer.violated()

    def _take_inbox(self) -> list[Delta]:
        """Pass new requests and cancellations to the engine. Return the deltas of requests that end."""
        with self._wake:
            commands = list(self._inbox)
            self._inbox.clear()
        deltas: list[Delta] = []
        for command in commands:
            match command:
                case str():
                    deltas += self._engine.cancel(command)
                case _Pause():
                    self._engine.set_paused(command.request_id, command.paused)
                case _:
                    deltas += self._submit(command)
        return deltas

    def _submit(self, request: Request) -> list[Delta]:
        try:
            self._engine.submit(request)
        except InfrsError as error:
            return _failed(request.request_id, range(request.num_choices), error, len(request.prompt_ids))
        return []

    def _deliver(self, deltas: Iterable[Delta]) -> None:
        for delta in deltas:
            with self._wake:
                waiting = self._sinks[delta.request_id]
                if delta.finish_reason is not None:
                    waiting.ended.add(delta.index)
                if not waiting.num_left:
                    del self._sinks[delta.request_id]
            waiting.sink(delta)

    @property
    def _num_open(self) -> int:
        return sum(waiting.num_left for waiting in list(self._sinks.values()))


def _failed(request_id: str, indices: Iterable[int], error: InfrsError, num_prompt_tokens: int = 0) -> list[Delta]:
    """Return the last deltas of answers that are not in the engine."""
    usage = Usage(num_prompt_tokens, num_output_tokens=0)
    return [Delta(request_id, "", (), usage, FinishReason.ERROR, error, index) for index in indices]
