"""llama.cpp's own server, compiled here with all instructions that this processor has.

The xllamacpp wheel is compiled for AVX2. This one comes from the source that llama-cpp-python's source distribution
carries, so that on a processor with AVX-512 and VNNI infrs is compared with a llama.cpp that uses them too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "0.3.36"  # of llama-cpp-python
_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
_TIMEOUT = 5400  # seconds


def server(cache: Path) -> Path:
    """The program `llama-server`, made once and kept in `cache`. Needs a C++ compiler."""
    target = cache / f"llama-server-{VERSION}"
    if not target.is_file():
        print("Compiling llama.cpp for this processor (once; ten minutes on two cores)", file=sys.stderr)
        with tempfile.TemporaryDirectory() as directory:
            built = _build(Path(directory))
            partial = target.with_suffix(".partial")
            shutil.copy2(built, partial)
            partial.replace(target)
    return target


def _build(directory: Path) -> Path:
    tools = directory / "tools"
    _run(sys.executable, "-m", "venv", tools)
    _run(tools / "bin" / "pip", "install", "--quiet", "cmake", "ninja", "scikit-build-core")
    fetch = ("download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", directory)
    _run(tools / "bin" / "pip", *fetch, f"llama-cpp-python=={VERSION}")
    [archive] = directory.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(directory, filter="data")
    [source] = directory.glob("llama_cpp_python-*/vendor/llama.cpp")
    cmake, build = tools / "bin" / "cmake", directory / "build"
    _run(cmake, "-S", source, "-B", build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools / 'bin' / 'ninja'}", *_OPTIONS)
    _run(cmake, "--build", build, "--target", "llama-server", "--parallel", str(os.cpu_count() or 1))
    return build / "bin" / "llama-server"


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, timeout=_TIMEOUT, stdout=sys.stderr)
