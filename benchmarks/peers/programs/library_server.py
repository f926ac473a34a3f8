"""A library that answers one request at a time, as a server to be measured like the others.

Needs nothing of infrs, only the standard library: it runs in the environments that peers.py makes for libraries. Prints
the address when it is ready; ends when its input ends.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# From a request's body and where to put each piece of text, to the numbers of tokens in and out.
Answer = Callable[[dict, Callable[[str], None]], tuple[int, int]]  # type: ignore[type-arg]

_turn = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """`/v1/models` and streamed `/v1/chat/completions`."""

    answer: Answer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List the model."""
        body = json.dumps({"data": [{"id": "library"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Stream an answer; the end of the connection ends it."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        with _turn:
            num_input, num_output = type(self).answer(body, self._piece)
        usage = {"prompt_tokens": num_input, "completion_tokens": num_output}
        self._event(json.dumps({"choices": [], "usage": usage}))
        self._event("[DONE]")
        self.close_connection = True

    def _piece(self, text: str) -> None:
        if text:
            self._event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}))

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        """Keep quiet: a line for each request would be measured too."""


def serve(answer: Answer) -> None:
    """Answer until standard input ends."""
    Handler.answer = staticmethod(answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ready at http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()
    os._exit(0)
