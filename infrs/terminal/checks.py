"""What `infrs doctor` checks. Each check looks at one thing and says what to do if it is not as it should be."""

from __future__ import annotations

import base64
import importlib.util
import os
import platform
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from infrs import __version__, native
from infrs.bundle.manifest import manifests
from infrs.cli.export_missing import EXPORTER
from infrs.config.settings import Settings
from infrs.errors import without_password
from infrs.extras import install_command
from infrs.machine.cpus import affinity, count_cores, cpu_quota, default_threads
from infrs.machine.memory import read_memory

_SMALL_MEMORY = 4 << 30
_SMALL_DISK = 10 << 30
_HUB_SECONDS = 5.0
_HUB = "https://huggingface.co"


class Level(StrEnum):
    """How a check ends. A problem stops infrs from working; a warning does not."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: what it looked at, what it saw, and what to do if that is not good."""

    subject: str
    level: Level
    seen: str
    advice: str = ""


def check_platform(settings: Settings) -> Finding:
    """Check the operating system and the version of Python."""
    seen = f"infrs {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.platform == "win32":
        return Finding("platform", Level.PROBLEM, seen, "run infrs in WSL 2")
    return Finding("platform", Level.GOOD, seen)


def check_cpus(settings: Settings, root: Path = Path("/")) -> Finding:
    """Check the cores, the quota, and the number of threads that is set."""
    cpus, quota = affinity(), cpu_quota(root)
    cores = count_cores(root, cpus)
    seen = f"{cores} cores, {len(cpus)} CPUs" + (f", a quota of {quota:g} CPUs" if quota < len(cpus) else "")
    threads, limit = settings.engine.threads or default_threads(root), min(len(cpus), quota)
    seen += f"; {threads} compute threads"
    if threads > limit:
        return Finding("CPUs", Level.WARNING, seen, "set engine.threads to 0: more threads than CPUs are slower")
    if quota < cores:
        return Finding("CPUs", Level.WARNING, seen, "raise the CPU quota of the container to use all cores")
    return Finding("CPUs", Level.GOOD, seen)


def check_kernels(settings: Settings, cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """Check that infrs's kernels were built and that the processor can run them."""
    library = native.library()
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    if settings.engine.kernels == "onnxruntime":
        return Finding("kernels", Level.WARNING, "engine.kernels is onnxruntime", "remove the setting: it is slower")
    if library is None:
        advice = f"install a C++ compiler such as g++, then run: {install_command('export')}"
        return Finding("kernels", Level.WARNING, "infrs's kernels are not built; ONNX Runtime's are slower", advice)
    if text and not {"avx2", "fma", "f16c"} <= flags:
        return Finding("kernels", Level.WARNING, "the processor has no AVX2; ONNX Runtime's slower kernels run")
    names = {"AVX-512": "avx512f", "VNNI": "avx512_vnni", "AVX-VNNI": "avx_vnni", "BF16": "avx512_bf16"}
    wide = [name for name, flag in names.items() if flag in flags]
    return Finding("kernels", Level.GOOD, f"infrs's kernels are built; AVX2{''.join(f', {name}' for name in wide)}")


def check_memory(settings: Settings) -> Finding:
    """Check the free memory, within the limits of the container."""
    total, available = read_memory()
    seen = f"{available / 2**30:.1f} of {total / 2**30:.1f} GiB are free"
    if available < _SMALL_MEMORY:
        advice = "close programs, raise the container's limit, or choose a small model in int4"
        return Finding("memory", Level.WARNING, seen, advice)
    return Finding("memory", Level.GOOD, seen)


def check_cache(settings: Settings) -> Finding:
    """Check that models can be written to the cache, and what it holds."""
    cache = settings.model.cache_dir
    parent = next(path for path in (cache.absolute(), *cache.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        advice = "set model.cache_dir to a folder of your own"
        return Finding("cache", Level.PROBLEM, f"{parent} cannot be written to ({error.strerror})", advice)
    count, free = len({manifest.source.model_id for manifest in manifests(cache)}), shutil.disk_usage(parent).free
    models = "1 model" if count == 1 else f"{count} models"
    seen = f"{cache} holds {models}; {free / 2**30:.0f} GiB of disk are free"
    if free < _SMALL_DISK:
        return Finding("cache", Level.WARNING, seen, "free some disk, or set model.cache_dir to another one")
    return Finding("cache", Level.GOOD, seen)


def check_exporter(settings: Settings) -> Finding:
    """Check that models can be exported."""
    missing = [name for name in EXPORTER.required if importlib.util.find_spec(name) is None]
    if missing:
        advice = f"to export models here, run: {install_command('export')}"
        return Finding("exporter", Level.WARNING, f"it is not installed ({', '.join(missing)} missing)", advice)
    return Finding("exporter", Level.GOOD, "it is installed")


def check_token(settings: Settings) -> Finding:
    """Check whether a token for gated models of the Hub is set."""
    variable = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name)), None)
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    file = Path(os.environ.get("HF_TOKEN_PATH", home / "token"))
    if variable is not None:
        return Finding("token", Level.GOOD, f"{variable} is set")
    if file.is_file():
        return Finding("token", Level.GOOD, f"{file} holds one")
    return Finding("token", Level.GOOD, "none is set; only gated and private models need one (HF_TOKEN)")


def check_hub(settings: Settings) -> Finding:
    """Check that the Hub answers."""
    given = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    host, url = without_password(given), urlsplit(given)
    user = base64.b64encode(unquote(url.netloc.rpartition("@")[0]).encode()).decode()
    headers = {"Authorization": f"Basic {user}"} if user else {}
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "ON", "YES", "TRUE"):
        return Finding("Hub", Level.WARNING, "HF_HUB_OFFLINE is set", "unset it to download models")
    try:
        with urlopen(Request(f"{host}/api/models?limit=1", headers=headers, method="GET"), timeout=_HUB_SECONDS):  # noqa: S310
            return Finding("Hub", Level.GOOD, f"{host} answers")
    except HTTPError as error:
        advice = "wait, then try again" if error.code in (429, 503) else "check HF_ENDPOINT and the proxy"
        return Finding("Hub", Level.WARNING, f"{host} answers with status {error.code}", advice)
    except (URLError, OSError, ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", error)
        advice = "check the network, HTTPS_PROXY and HF_ENDPOINT; models in the cache work without the Hub"
        return Finding("Hub", Level.WARNING, f"{host} does not answer ({reason})", advice)


def check_port(settings: Settings) -> Finding:
    """Check that the server can listen."""
    host, port = settings.server.host, settings.server.port
    family: Literal[socket.AddressFamily.AF_INET, socket.AddressFamily.AF_INET6]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            advice = "stop the program that uses it, or choose another with --port"
            return Finding("port", Level.WARNING, f"{host}:{port} cannot be used ({error.strerror})", advice)
    return Finding("port", Level.GOOD, f"{host}:{port} is free")


CHECKS: tuple[Callable[[Settings], Finding], ...] = (
    check_platform,
    check_cpus,
    check_memory,
    check_kernels,
    check_cache,
    check_exporter,
    check_token,
    check_hub,
    check_port,
)
