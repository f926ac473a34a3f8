"""Process 1 of a container, in a PID namespace and out of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BEGIN = "import os, signal, sys, time; from infrs.cli.process_1 import leave_process_1, run_in_child; "
NAMESPACE = ["unshare", *(["--user", "--map-root-user"] if os.geteuid() else []), "--pid", "--fork", "--kill-child"]
CHILD = """
def show(number, frame):
    print(number, flush=True)

for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, show)
print(os.getpid(), os.getppid(), flush=True)
while True:
    time.sleep(60)
"""


@contextmanager
def running(code: str, *, prefix: list[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    command = [*(prefix or []), sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def child_of(process: subprocess.Popen[str]) -> int:
    """The only child of a process, as this namespace numbers it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 10
    while not children.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(children.read_text())


@pytest.mark.parametrize(
    ("end", "code"),
    [("sys.exit(7)", 7), ("pass", 0), ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL)],
)
def test_the_exit_code_is_the_childs(end: str, code: int) -> None:
    with running(f"{BEGIN}run_in_child(); {end}") as process:
        assert process.wait(10) == code


def test_signals_are_passed_on() -> None:
    with running(f"{BEGIN}run_in_child(){CHILD}") as process:
        assert line(process).split()[1] == str(process.pid)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
            assert line(process) == f"{number.value}\n"
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM


def test_only_process_1_continues_in_a_child() -> None:
    with running(f"{BEGIN}leave_process_1(); print(os.getpid())") as process:
        assert line(process) == f"{process.pid}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_the_default_action_ends_process_1(number: signal.Signals) -> None:
    # A shell that starts this test in the background has SIGQUIT ignored.
    default = "".join(f"signal.signal({int(each)}, signal.SIG_DFL); " for each in (signal.SIGINT, signal.SIGQUIT))
    code = f"{BEGIN}{default}leave_process_1(); print(os.getpid(), flush=True); "
    with running(f"{code}time.sleep(60)", prefix=NAMESPACE) as process:
        assert int(line(process)) > 1
        os.kill(child_of(process), number)
        assert process.wait(10) == 128 + number


def test_process_1_reaps_orphans() -> None:
    code = f"""
{BEGIN}leave_process_1()
if not os.fork():
    if os.fork():
        os._exit(0)
    os.execvp('sleep', ['sleep', '0.1'])
os.wait()
time.sleep(0.5)
print([name for name in os.listdir("/proc") if name.isdigit()])
"""
    with running(code, prefix=[*NAMESPACE, "--mount-proc"]) as process:
        assert line(process) == "['1', '2']\n"


@pytest.mark.parametrize(
    "program", ["infrs.cli.entry import serve as program", "infrs_export.entry import main as program"]
)
def test_the_commands_leave_process_1(program: str) -> None:
    patch = "from infrs.cli import command; command.run = lambda *_: print(os.getpid())"
    code = f"import os; from {program}; {patch}; program()"
    with running(code, prefix=NAMESPACE) as process:
        assert int(line(process)) > 1
