"""A fake server that reports the addresses and unexpected files that it opens, on standard error.

uvloop accepts connections without Python's sockets, and makes none of its own accord.
"""

from __future__ import annotations

import sys

BANNED = {
    "torch",
    "transformers",
    "optimum",
    "onnx",
    "gguf",
    "huggingface_hub",
    "httpx2",
    "requests",
    "urllib3",
    "infrs_export",
}


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook (PEP 578)."""
    reached = event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system")
    reached = reached and arguments[0] != "127.0.0.1"  # where it listens
    path = str(arguments[0]) if event in ("open", "os.listdir", "os.scandir") else ""
    if reached or "passwd" in path or "canary" in path or ".." in path:
        print(f"REACHED {event} {arguments!r}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    from fake_server import main

    sys.addaudithook(watch)
    try:
        main()
    finally:
        print(f"IMPORTED {sorted(BANNED & sys.modules.keys())}", file=sys.stderr, flush=True)
