"""infrs and its peers as processes, started one by one and stopped for certain."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.lib.models import SCRIPTS, bundle, cache, demo_gguf, gguf
from benchmarks.peers import genai_model
from benchmarks.peers import llamacpp_native as llamacpp_built
from infrs.bench.client import Target, find_model
from infrs.bench.transport import Endpoint
from infrs.bundle.manifest import Dtype

_START_SECONDS = 300
_STOP_SECONDS = 20
OPENVINO = "2026.4.1.0"
GENAI = "0.18.0"
GENAI_SERVER = "0.1.0.dev6"
_HERE = Path(__file__).parent
_PROGRAMS = _HERE / "programs"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready. ready_seconds: from its start. resident_bytes: at rest. weight_bytes: of its files.

    command: as a shell would take it, with the last part of each path. one_at_a_time: it is a library that serves one
    request after another.
    """

    target: Target
    ready_seconds: float
    resident_bytes: int
    weight_bytes: int
    command: str = ""
    one_at_a_time: bool = False


def _graph_bytes(folder: Path) -> int:
    """Bytes of a graph and its weights."""
    return sum(file.stat().st_size for file in folder.glob("model.onnx*"))


@contextmanager
def infrs(name: str, path: Path, *flags: str) -> Iterator[Server]:
    """`infrs-serve` with its default settings."""
    command = [SCRIPTS / "infrs-serve", "--bundle", path, "--port", "0", *flags]
    with _process(name, command, r"serves \S+ at (http://\S+?):? ", _graph_bytes(path)) as server:
        yield server


@contextmanager
def llamacpp(name: str, path: Path, *flags: str) -> Iterator[Server]:
    """llama.cpp's server with eight slots."""
    command = [sys.executable, _PROGRAMS / "llamacpp_server.py", path, *flags]
    with _process(name, command, r"ready at (http://\S+)", path.stat().st_size) as server:
        yield server


@contextmanager
def llamacpp_native(name: str, path: Path, slots: int, context: int, *flags: str) -> Iterator[Server]:
    """llama.cpp's server compiled for this processor. context: of all slots together."""
    program = llamacpp_built.server(cache())
    command = [program, "--model", path, "--parallel", slots, "--ctx-size", context, "--port", 0, *flags]
    with _process(name, command, r"listening on (http://\S+)", path.stat().st_size) as server:
        yield server


@contextmanager
def openvino(kind: str, _: Path) -> Iterator[Server]:
    """OpenVINO GenAI's library on the GGUF file of a type, behind a thin server, in an environment of its own."""
    environment = cache() / f"openvino-genai-{OPENVINO}"
    if not (environment / "ready").exists():
        print("Installing OpenVINO GenAI (once; 300 MB)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*pip, f"openvino-genai=={OPENVINO}"], check=True, timeout=1800, stdout=sys.stderr)
        (environment / "ready").touch()
    path = gguf(kind)
    command = [environment / "bin" / "python", _PROGRAMS / "openvino_server.py", path]
    with _process(f"OpenVINO {kind}", command, r"ready at (http://\S+)", path.stat().st_size) as server:
        yield replace(server, one_at_a_time=True)


@contextmanager
def transformers(dtype: str, models_cache: Path) -> Iterator[Server]:
    """PyTorch on the CPU behind a thin server: the demo's weights widened to `dtype`."""
    path = demo_gguf()
    command = [sys.executable, _PROGRAMS / "transformers_server.py", path]
    command += [bundle(models_cache, "float32"), dtype]
    with _process(f"transformers {dtype}", command, r"ready at (http://\S+)", path.stat().st_size) as server:
        yield replace(server, one_at_a_time=True)


@contextmanager
def genai(_: str, models_cache: Path) -> Iterator[Server]:
    """onnxruntime-genai's library on a 4-bit model that its own builder makes of the demo, behind a thin server."""
    library, model = _genai_library(), _genai_model(models_cache)
    command = ["env", f"PYTHONPATH={library}", sys.executable, _PROGRAMS / "genai_server.py", model]
    with _process("onnxruntime-genai int4", command, r"ready at (http://\S+)", _graph_bytes(model)) as server:
        yield replace(server, one_at_a_time=True)


@contextmanager
def genai_server(_: str, models_cache: Path) -> Iterator[Server]:
    """`onnx-genai serve`, eight parallel sequences, on the model of onnxruntime-genai's builder."""
    wanted = ("--pre", "--no-deps", f"onnx-genai-server=={GENAI_SERVER}")
    library = _installed("onnx-genai-server", GENAI_SERVER, "20 MB", *wanted)
    model, built = cache() / f"demo-genai-{GENAI}-int4-served", _genai_model(models_cache)
    if not model.exists():
        genai_model.for_server(built, model)
    command = ["env", f"PYTHONPATH={library}", sys.executable, _PROGRAMS / "onnx_genai_serve.py", model]
    with _process("onnx-genai-server int4", command, r"ready at (http://\S+)", _graph_bytes(model)) as server:
        yield server


def _genai_library() -> Path:
    wanted = (f"onnxruntime-genai=={GENAI}", "onnx-ir", "transformers>=5")
    return _installed("onnxruntime-genai", GENAI, "400 MB with what its builder needs", *wanted)


def _genai_model(models_cache: Path) -> Path:
    model, library = cache() / f"demo-genai-{GENAI}-int4", _genai_library()
    if not model.exists():
        script = _HERE / "genai_model.py"
        command = [sys.executable, script, demo_gguf(), bundle(models_cache, "float32"), library, model]
        subprocess.run([*map(str, command)], check=True, timeout=2400)
    return model


def _installed(name: str, number: str, size: str, *wanted: str) -> Path:
    """Return a folder of packages outside this environment; install it on first use."""
    library = cache() / f"{name}-{number}"
    if not (library / "ready").exists():
        print(f"Installing {name} (once; {size})", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--target", str(library)]
        subprocess.run([*pip, *wanted], check=True, timeout=1800, stdout=sys.stderr)
        (library / "ready").touch()
    return library


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer other than llama.cpp. start: takes a type of llama.cpp and the cache of bundles.

    dtype: of infrs, for the comparison. kind: of llama.cpp, if the peer reads GGUF files. versions: what it runs on.
    """

    start: Callable[[str, Path], AbstractContextManager[Server]]
    dtype: Dtype
    kind: str
    versions: dict[str, str]


_PYTORCH = {name: version(name) for name in ("transformers", "torch")}
PEERS: dict[str, Peer] = {
    "openvino": Peer(openvino, "int8", "Q8_0", {"openvino-genai": OPENVINO}),
    "onnxruntime-genai": Peer(genai, "int4", "Q4_0", {"onnxruntime-genai": GENAI}),
    "onnx-genai-server": Peer(genai_server, "int4", "Q4_0", {"onnx-genai-server": GENAI_SERVER}),
    "transformers-bfloat16": Peer(
        lambda _, models_cache: transformers("bfloat16", models_cache), "bfloat16", "BF16", _PYTORCH
    ),
}


@contextmanager
def _process(name: str, command: Sequence[object], pattern: str, weight_bytes: int) -> Iterator[Server]:
    """Start a server, wait for the line with its address, and stop it when the block ends."""
    began = time.perf_counter()
    environ = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
    )
    lines: list[str] = []
    address: list[str] = []
    announced = threading.Event()
    ready = [0.0]

    def read() -> None:
        for line in process.stdout or ():
            del lines[:-20]
            lines.append(line)
            if not address and (found := re.search(pattern, line)):
                ready[0] = time.perf_counter() - began
                address.append(found[1])
                announced.set()
        announced.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        announced.wait(_START_SECONDS)
        if not address:
            raise SystemExit(f"{name} did not start within {_START_SECONDS} s:\n{''.join(lines)}")
        endpoint = Endpoint.parse(address[0])
        model = asyncio.run(find_model(endpoint))
        target = Target(name, endpoint, model, {"ignore_eos": True})
        shown = shlex.join(Path(part).name if "/" in part else part for part in map(str, command))
        yield Server(target, ready[0], _resident_bytes(process.pid), weight_bytes, shown)
    finally:
        process.terminate()
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _resident_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) << 10
