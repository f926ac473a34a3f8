"""A real server over a fake engine, run as a process: `python fake_server.py '{"interval": 0.01, ...}'`.

The fake answers with the words "w0 w1 w2 ..." and does what its prompt says: "boom" fails after two words,
"die" kills the engine, "emoji" splits an emoji over deltas that carry no text. The words of answer i > 0 begin with i.
Its tokens are bytes, each with the log-probability -byte/256. With `"engine": "synthetic"` it is the real engine, over
the graph of tests/engine/synthetic.py, which with `"exact"` is taken for one of infrs's own kernels. With `"embedding":
"beside"` it has an embedding model too, with "alone" no other; the same for `"classifier"`.
`"sampling"` is what the bundle says of sampling,
`"template"` a Jinja chat template in the place of plain lines. `"demand"` has models that load on demand, each with
fields of its ModelSpec; `"disk"` is the folder of their files. It prints one JSON line when ready.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fake_classifier import CLASSIFIER_ID, classifier_model
from fake_encoder import EMBEDDING_ID, embedding_model
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from infrs.bundle.manifest import Manifest, Sampling
from infrs.config.settings import EngineSettings, Settings
from infrs.core import Delta, FinishReason, Request, SamplingParams, TokenLogprob, Usage
from infrs.engine.engine import Engine
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Capabilities, Rows
from infrs.engine.sampling.grammar import GrammarCompiler
from infrs.engine.service import EngineService, EngineStats
from infrs.errors import BundleError, DrainingError, EngineError, InfrsError, QueueFullError
from infrs.http.app import create_app, listen, run
from infrs.http.auth import load_keys
from infrs.http.observability.logs import to_stderr
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.load import default_sampling, fingerprint
from infrs.models.loaded import LoadedModel
from infrs.models.registry import ModelRegistry
from infrs.models.residency.spec import Found, ModelSpec
from infrs.models.served import ServedChatModel
from infrs.text.chat.template import ChatTemplate, Messages, SimpleFormat, Variables
from infrs.text.detokenizer import Detokenizer
from infrs.text.token_bytes import TokenBytes
from infrs.text.tokenizer import Tokenizer, spelt_bytes
from infrs.text.tools.formats import FORMATS, choose_format

sys.path.extend(str(Path(__file__).parents[1] / name) for name in (".", "engine"))
from manifests import chat_manifest

MODEL_ID = "fake/words"
Sink = Callable[[Delta], None]

_IDLE_SECONDS = 0.05  # between two looks at `stopping`


class FakeEngine:
    """EngineService's interface. `rows` requests advance by one word every `interval` seconds."""

    def __init__(self, rows: int, max_queue: int, max_model_len: int, interval: float) -> None:
        self.rows, self.max_queue, self.max_model_len, self.interval = rows, max_queue, max_model_len, interval
        self.lock = threading.Lock()
        self.active: dict[str, tuple[Request, Sink, int]] = {}
        self.paused: set[str] = set()
        self.alive = False
        self.stopping = False
        self.steps = 0
        self.observer: object = None
        self.last_progress = 0.0
        self.work = threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def start(self) -> None:
        self.alive = True
        self.thread.start()

    def stop(self, timeout: float) -> None:
        self.stopping = True
        self.work.set()
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
        self.work.set()

    def cancel(self, request_id: str) -> None:
        with self.lock:
            found = self.active.pop(request_id, None)
        if found:
            request, sink, count = found
            for index in range(request.num_choices):
                sink(Delta(request_id, "", (), usage(request, count), FinishReason.CANCELLED, index=index))

    def set_paused(self, request_id: str, paused: bool) -> None:
        (self.paused.add if paused else self.paused.discard)(request_id)

    def snapshot(self) -> EngineStats:
        running = min(len(self.active), self.rows)
        waiting = len(self.active) - running
        bounds = (self.rows, self.max_queue, self.max_model_len)
        return EngineStats(running, waiting, *bounds, self.steps, self.last_progress)

    def is_waiting(self, request_id: str) -> bool:
        return request_id in list(self.active)[self.rows :]

    def loop(self) -> None:
        while not self.stopping and self.step():
            self.last_progress = time.monotonic()
            if self.active:
                time.sleep(self.interval)
            else:
                self.work.wait(_IDLE_SECONDS)
                self.work.clear()
        self.alive = False

    def step(self) -> bool:
        self.steps += 1
        with self.lock:
            running = list(self.active.items())[: self.rows]
        for request_id, (request, sink, count) in [item for item in running if item[0] not in self.paused]:
            prompt = bytes(request.prompt_ids).decode(errors="replace")
            words = re.findall(r"\w+", prompt)
            if "die" in words:  # not "ingredients"
                return False
            if "stall" in words:
                time.sleep(30)
            delta = self.next_delta(request, count, prompt)
            ended = delta.finish_reason is not None
            with self.lock:
                if request_id not in self.active:
                    continue
                self.active[request_id] = (request, sink, count + 1)
                if ended:
                    del self.active[request_id]
            for index in range(request.num_choices):
                sink(self.choice(delta, index, request))
        return True

    def choice(self, delta: Delta, index: int, request: Request) -> Delta:
        text = f"{index}{delta.text}" if index and delta.text else delta.text
        logprobs: tuple[TokenLogprob, ...] = ()
        if request.num_logprobs is not None:
            top = tuple((id_, -id_ / 256) for id_ in range(97, 97 + request.num_logprobs))
            logprobs = tuple(TokenLogprob(byte, -byte / 256, top) for byte in text.encode())
        scored: tuple[TokenLogprob, ...] = ()
        if request.prompt_logprobs and index == 0 and delta.usage.num_output_tokens <= 1:
            scored = tuple(TokenLogprob(id_, -id_ / 256, ((97, -97 / 256),)) for id_ in request.prompt_ids[1:])
        return replace(delta, index=index, text=text, logprobs=logprobs, prompt_logprobs=scored)

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
                        [
                            sampling.typical_p,
                            sampling.presence_penalty,
                            sampling.frequency_penalty,
                            sampling.repetition_penalty,
                            sampling.logit_bias,
                        ],
                        [request.min_tokens, sorted(request.stop_token_ids), request.num_choices],
                    ]
                )
                if count == 0
                else ""
            )
        else:
            text = f"w{count} "
        if request.max_tokens == 0:
            return Delta(request.request_id, "", (), usage(request, 0), FinishReason.LENGTH)
        reason = FinishReason.LENGTH if count + 1 == request.max_tokens else None
        if "stop" in prompt and count == 3:
            reason = FinishReason.STOP
        return Delta(request.request_id, text, (count,), usage(request, count + 1), reason)


def usage(request: Request, count: int) -> Usage:
    return Usage(len(request.prompt_ids), count)


def byte_tokenizer(tokens: list[bytes]) -> Tokenizer:
    """A byte-level tokenizer: id i is `tokens[i]`, b"" the control token </s>, and after them those of infilling."""
    spelling = {spelt_bytes(character): character for character in pre_tokenizers.ByteLevel.alphabet()}
    vocab = {"".join(spelling[bytes([byte])] for byte in token) or "</s>": i for i, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    if b"" in tokens:
        marks = ["</s>", "<fim_prefix>", "<fim_suffix>", "<fim_middle>"]
        backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
        backend.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 0)])
    return Tokenizer(backend.to_str())


class LineFormat(SimpleFormat):
    """A chat format of `role: content` lines, without a generation prompt; `enable_thinking` adds a line."""

    stop = ("\nuser:",)
    adds_special = False
    source = ""
    variables = frozenset({"enable_thinking"})

    def render(
        self, messages: Messages, *, add_generation_prompt: bool = True, variables: Variables | None = None
    ) -> str:
        lines = [f"{message['role']}: {message['content']}" for message in messages]
        thinking = [f"thinking: {variables['enable_thinking']}"] if variables else []
        return "\n".join(thinking + lines)


MANIFEST = chat_manifest(MODEL_ID)


def served(engine: object, tokenizer: Tokenizer, manifest: Manifest) -> LoadedModel:
    return LoadedModel(
        model_id=MODEL_ID,
        manifest=manifest,
        bundle=Path("bundle"),
        engine=engine,  # type: ignore[arg-type]  # the interface, not the class
        tokenizer=tokenizer,
        chat_format=LineFormat(),
        token_bytes=TokenBytes(tokenizer),
        fingerprint=fingerprint(manifest, {}, SamplingParams()),
        created=1_700_000_000,
        grammars=GrammarCompiler(tokenizer, manifest.vocab_size, manifest.special_tokens.eos),
        tool_format=choose_format(""),
    )


def synthetic_model(rows: int, max_queue: int, capacity: int, *, exact: bool) -> LoadedModel:
    """The real engine over a graph that is a formula, with tokens that are parts of characters."""
    import synthetic  # noqa: PLC0415  # needs onnx, which the other servers do without

    whole = "\n :abcdefghijklmnopqrstuvwxyz0123456789.,!?'{}[]\"_-"
    parts = [bytes([byte]) for byte in "é😀—日".encode()]
    tokens = [b"", *(character.encode() for character in whole), *dict.fromkeys(parts)]
    tokens += [b"th", " é".encode(), b"ing ", "😀".encode(), b"\xff", b"user"]
    tokens += [f"t{i}".encode() for i in range(synthetic.VOCAB - 3 - len(tokens))]
    tokenizer = byte_tokenizer(tokens)
    with tempfile.TemporaryDirectory() as folder:
        synthetic.build(Path(folder) / "model.onnx", "fused")
        runner = open_runner(Path(folder), synthetic.manifest(), Rows(rows, capacity), threads=1)
        runner.capabilities = Capabilities(chunk_invariant=exact)
    engine = EngineService(Engine(runner, lambda: Detokenizer(tokenizer), frozenset({0}), 8), max_queue)
    return served(engine, tokenizer, synthetic.manifest())


def add_on_demand(registry: ModelRegistry, options: dict[str, Any], open_chat: Callable[[], LoadedModel]) -> None:
    """The content of a model's file is its version. It cannot be loaded if that is "broken"."""

    def find(file: Path) -> Found:
        def open_model(_: EngineSettings) -> LoadedModel:
            time.sleep(options["demand_seconds"])
            if file.read_text() == "broken":
                raise BundleError(f"{file} is altered")
            return replace(open_chat(), fingerprint=f"fp_{file.read_text()}")

        return Found(open_model, 10, file.read_text(), chat_manifest(file.name), SimpleFormat)

    for model_id, given in options["demand"].items():
        file = Path(options["disk"]) / model_id
        fields = {**given, "aliases": frozenset(given.get("aliases", ()))}
        registry.add(
            ModelSpec(model_id, partial(find, file), find(file), kind=ServedChatModel, at_start=False, **fields)
        )


def main(make: Callable[[int, int], LoadedModel] | None = None) -> None:
    """`make`: another model, from the numbers of its rows and of requests that may wait."""
    options = {"rows": 2, "max_queue": 2, "max_model_len": 512, "interval": 0.002, "load_seconds": 0.0, "fail": None}
    options |= {
        "engine": "words",
        "capacity": 96,
        "exact": False,
        "embedding": "",
        "classifier": "",
        "keep_alive": None,
        "template": "",
    }
    options |= {"sampling": {}, "tool_format": "", "demand": {}, "demand_seconds": 0.0, "disk": "", "budget": None}
    given = json.loads(sys.argv[1])
    options |= {key: value for key, value in given.items() if key in options}
    bounds = {"max_num_seqs": options["rows"], "max_queue": options["max_queue"]}
    model_settings = given.get("model", {})
    settings = Settings.model_validate(
        {"server": {"port": 0} | given.get("server", {}), "model": model_settings, "engine": bounds}
    )
    to_stderr(settings.server)
    listener = listen(settings.server)

    async def load(registry: ModelRegistry) -> None:
        if "alone" not in (options["embedding"], options["classifier"]):
            await registry.load(MODEL_ID, load_chat)
        if options["classifier"]:
            aliases = ("ranks",)
            await registry.load(
                CLASSIFIER_ID, lambda _: classifier_model(options["interval"]), settings.engine, aliases
            )
        if options["embedding"]:
            await registry.load(EMBEDDING_ID, load_embedding, settings.engine)
        registry.budget, registry.queue_timeout = options["budget"], settings.server.queue_timeout
        add_on_demand(registry, options, open_chat)

    def load_embedding(_: EngineSettings) -> EmbeddingModel:
        return embedding_model(byte_tokenizer([bytes([byte]) for byte in range(256)]), options["interval"])

    def load_chat(_: EngineSettings) -> LoadedModel:
        chat = open_chat()
        if not options["sampling"]:
            return chat
        manifest = chat.manifest.model_copy(update={"sampling": Sampling(**options["sampling"])})
        return replace(chat, manifest=manifest, sampling=default_sampling(manifest, settings.model))

    def open_chat() -> LoadedModel:
        time.sleep(options["load_seconds"])
        if options["fail"] == "unexpectedly":
            raise RuntimeError("nobody thought of this")
        if options["fail"]:
            raise EngineError(options["fail"])
        if make is not None:
            made = make(options["rows"], options["max_queue"])
            return replace(made, tool_format=FORMATS[options["tool_format"]]) if options["tool_format"] else made
        if options["engine"] == "synthetic":
            return synthetic_model(options["rows"], options["max_queue"], options["capacity"], exact=options["exact"])
        engine = FakeEngine(options["rows"], options["max_queue"], options["max_model_len"], options["interval"])
        model = served(engine, byte_tokenizer([bytes([byte]) for byte in range(256)]), MANIFEST)
        return replace(model, chat_format=ChatTemplate(options["template"], {})) if options["template"] else model

    def on_ready(registry: ModelRegistry) -> None:
        print(json.dumps({"ready": True}), flush=True)

    app = create_app(settings, load_keys(settings.server), load, on_ready)
    if options["keep_alive"] is not None:
        app.config.KEEP_ALIVE_TIMEOUT = options["keep_alive"]
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    try:
        sys.exit(run(app, listener))
    except InfrsError as error:
        sys.exit(f"fake: {error}")


if __name__ == "__main__":
    main()
