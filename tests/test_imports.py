"""Every module can be imported where Python lacks what only Unix has, as on Windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Runs in a process of its own. Other packages are imported first, because their own files for Unix need all of it.
CODE = """
import builtins, importlib, mmap, os, pkgutil, signal, sys

def import_all():
    found = pkgutil.walk_packages(importlib.import_module(sys.argv[1]).__path__, sys.argv[1] + ".")
    names = [module.name for module in found if not module.name.endswith((".__main__", ".kernels"))]
    return [importlib.import_module(name) for name in names]

import_all()
for name in [name for name in sys.modules if name.partition(".")[0] in ("infrs", "infrs_export")]:
    del sys.modules[name]
for module, prefixes in {
    signal: ("SIGHUP", "SIGQUIT", "SIGUSR", "SIGCHLD", "SIGKILL", "SIG_BLOCK", "SIG_SETMASK", "pthread_", "sigwait"),
    os: ("fork", "getuid", "geteuid", "sysconf", "sched_", "getpgid", "killpg", "O_DIRECTORY"),
    mmap: ("MAP_", "MADV_"),
}.items():
    for name in [name for name in vars(module) if name.startswith(prefixes)]:
        delattr(module, name)
real = builtins.__import__

def without_unix(name, globals=None, *rest, **more):
    importer = (globals or {}).get("__name__", "").partition(".")[0]
    if name in {"fcntl", "grp", "pty", "pwd", "resource", "termios"} and importer in ("infrs", "infrs_export"):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    return real(name, globals, *rest, **more)

builtins.__import__ = without_unix
print(len(import_all()))
"""


@pytest.mark.parametrize("package", ["infrs", "infrs_export"])
def test_modules_need_nothing_of_unix_to_be_imported(package: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, package], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30
