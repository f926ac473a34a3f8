"""A real server over a fake engine, run as a process: `python fake_server.py '{"interval": 0.01, ...}'`.

The fake answers with the words "w0 w1 w2 ..." and does what its prompt says: "boom" fails after two words,
"die" kills the engine, "numbers" splits an emoji over deltas that carry no text. It prints one JSON line when ready.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from infrs.config import Settings
from infrs.core import Delta, FinishReason, Request, Usage
from infrs.engine.service import EngineStats
from infrs.errors import DrainingError, EngineError, InfrsError, QueueFullError
from infrs.manifest import KVGeometry, Manifest, Recipe, Source, SpecialTokens
from infrs.server.app import create_app, listen, run
from infrs.server.auth import load_keys
from infrs.server.state import ServedModel

MODEL_ID = "fake/words"
Sink = Callable[[Delta], None]


class FakeEngine:
    """EngineService's interface. `rows` requests advance by one word every `interval` seconds."""

    def __init__(self, rows: int, max_queue: int, max_model_len: int, interval: float) -> None:
        self.rows, self.max_queue, self.max_model_len, self.interval = rows, max_queue, max_model_len, interval
        self.lock = threading.Lock()
        self.active: dict[str, tuple[Request, Sink, int]] = {}
        self.alive = False
        self.stopping = False
        self.steps = 0
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def start(self) -> None:
        self.alive = True
        self.thread.start()

    def stop(self, timeout: float) -> None:
        self.stopping = True
        self.thread.join(timeout)

    def submit(self, request: Request, sink: Sink) -> None:
        with self.lock:
            if self.stopping:
                raise DrainingError("stopping")
            if not self.alive:
                raise EngineError("dead")
            if len(self.active) >= self.rows + self.max_queue:
                raise QueueFullError("full")
            self.active[request.request_id] = (request, sink, 0)

    def cancel(self, request_id: str) -> None:
        with self.lock:
            found = self.active.pop(request_id, None)
        if found:
            request, sink, count = found
            sink(Delta(request_id, "", (), usage(request, count), FinishReason.CANCELLED))

    def snapshot(self) -> EngineStats:
        running = min(len(self.active), self.rows)
        waiting = len(self.active) - running
        return EngineStats(running, waiting, self.rows, self.max_queue, self.max_model_len, self.steps, 0.0)

    def loop(self) -> None:
        while not self.stopping and self.step():
            time.sleep(self.interval)
        self.alive = False

    def step(self) -> bool:
        self.steps += 1
        with self.lock:
            running = list(self.active.items())[: self.rows]
        for request_id, (request, sink, count) in running:
            prompt = bytes(request.prompt_ids).decode(errors="replace")
            if "die" in prompt:
                return False
            delta = self.next_delta(request, count, prompt)
            with self.lock:
                if request_id not in self.active:
                    continue
                self.active[request_id] = (request, sink, count + 1)
                if delta.finish_reason is not None:
                    del self.active[request_id]
            sink(delta)
        return True

    def next_delta(self, request: Request, count: int, prompt: str) -> Delta:
        if "boom" in prompt and count == 2:
            error = EngineError("ORT said /secret/path")
            return Delta(request.request_id, "", (), usage(request, count), FinishReason.ERROR, error)
        if "boom-first" in prompt:
            raise_error: InfrsError = EngineError("ORT said /secret/path")
            return Delta(request.request_id, "", (), usage(request, 0), FinishReason.ERROR, raise_error)
        if "echo" in prompt:
            text = prompt if count == 0 else ""
        elif "emoji" in prompt:
            text = "" if count % 2 == 0 else "\U0001f600"
        elif "seen" in prompt:
            sampling = request.sampling
            text = (
                json.dumps(
                    [
                        request.max_tokens,
                        list(request.stop),
                        request.ignore_eos,
                        sampling.temperature,
                        sampling.top_p,
                        sampling.top_k,
                        sampling.min_p,
                        sampling.seed,
                    ]
                )
                if count == 0
                else ""
            )
        else:
            text = f"w{count} "
        reason = FinishReason.LENGTH if count + 1 == request.max_tokens else None
        if "stop" in prompt and count == 3:
            reason = FinishReason.STOP
        return Delta(request.request_id, text, (count,), usage(request, count + 1), reason)


def usage(request: Request, count: int) -> Usage:
    return Usage(len(request.prompt_ids), count)


def encode(messages: list[dict[str, str]]) -> list[int]:
    """The ids of a prompt are the bytes of its messages."""
    return list("\n".join(f"{message['role']}: {message['content']}" for message in messages).encode())


MANIFEST = Manifest(
    source=Source(kind="local", model_id=MODEL_ID, revision="main"),
    dtype="float32",
    recipe=Recipe(name="none", options={}, hash="0" * 64),
    architecture="fake",
    graph="fused",
    graph_file="model.onnx",
    kv=KVGeometry(num_layers=1, num_kv_heads=1, head_dim=1),
    vocab_size=256,
    context_length=512,
    special_tokens=SpecialTokens(bos=None, eos=(0,)),
    files={},
    tool_versions={},
    parity={},
    created="2026-01-01T00:00:00Z",
)


def main() -> None:
    options = {"rows": 2, "max_queue": 2, "max_model_len": 512, "interval": 0.002, "load_seconds": 0.0, "fail": None}
    given = json.loads(sys.argv[1])
    options |= {key: value for key, value in given.items() if key in options}
    settings = Settings.model_validate({"server": {"port": 0} | given.get("server", {})})
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    logging.getLogger("sanic").setLevel(logging.WARNING)
    listener = listen(settings.server)

    def load() -> ServedModel:
        time.sleep(options["load_seconds"])
        if options["fail"]:
            raise EngineError(options["fail"])
        engine = FakeEngine(options["rows"], options["max_queue"], options["max_model_len"], options["interval"])
        engine.start()
        return ServedModel(MODEL_ID, MANIFEST, Path("bundle"), engine, encode, ("\nuser:",), 1_700_000_000)

    def on_ready(model: ServedModel) -> None:
        print(json.dumps({"ready": True}), flush=True)

    app = create_app(settings, load_keys(settings.server), load, on_ready)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    sys.exit(run(app, listener))


if __name__ == "__main__":
    main()
