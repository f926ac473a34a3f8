"""`infrs-bench` itself, whatever it is to measure."""

import subprocess
import sys

from infrs import __version__

MAIN = "from infrs.bench.entry import main; main()"


def bench(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", MAIN, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_version() -> None:
    assert bench("--version") == (0, f"infrs-bench, version {__version__}\n", "")


def test_without_a_command_the_help_is_shown_as_it_is() -> None:
    code, out, err = bench()
    assert (code, out) == (2, "")
    assert "\nCommands:\n" in err
    assert err.rstrip("\n") == bench("--help")[1].rstrip("\n")
