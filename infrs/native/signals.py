"""Signals that end this process with a message, even while other code has the interpreter lock."""

from __future__ import annotations

import ctypes
import signal

from infrs.native import find_function


def end_by_signal(number: signal.Signals, status: int, message: str) -> bool:
    """Let a signal end this process with a status, after a line on standard error. A second call replaces the line.

    Returns False if the library is missing; then the signal keeps its action.
    """
    function = find_function("infrs_end_by_signal")
    if function is None:
        return False
    function.argtypes, function.restype = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p], ctypes.c_int
    return bool(function(number, status, f"{message}\n".encode()))
