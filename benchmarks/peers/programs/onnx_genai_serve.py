"""Run `onnx-genai serve MODEL` on a free port and print its address when it answers; needs only its package.

In a process of its own so that the memory measured is the server's: its launcher runs it in process.
"""

import os
import socket
import subprocess
import sys

from onnx_genai_server import main

# The server keeps Python's lock, so another process polls it.
ASK = """
import sys, time, urllib.request
for _ in range(3000):
    try:
        urllib.request.urlopen(sys.argv[1] + "/v1/models", timeout=5)
        print("ready at", sys.argv[1], flush=True)
        break
    except OSError:
        time.sleep(0.02)
"""

if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    subprocess.Popen([sys.executable, "-I", "-c", ASK, f"http://{address}"])
    os.environ.setdefault("RUST_LOG", "error")
    sys.argv = ["onnx-genai", "serve", sys.argv[1], "--addr", address, "--max-batch", "8"]
    sys.exit(main())
