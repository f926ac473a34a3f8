"""OpenVINO GenAI's library on a GGUF file, one chat request at a time, as a server to be measured like the others.

Needs nothing of infrs, only `openvino-genai`, which peers.py installs into an environment of its own. Prints the
address when it is ready; ends when its input ends.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openvino_genai

_turn = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """`/v1/models` and streamed `/v1/chat/completions`."""

    pipeline: openvino_genai.LLMPipeline
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List the model."""
        self._answer(json.dumps({"data": [{"id": "openvino"}]}).encode(), "application/json")

    def do_POST(self) -> None:
        """Stream an answer, whose end is the connection's."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = body["max_tokens"]
        config.ignore_eos = bool(body.get("ignore_eos"))
        config.do_sample = False
        # The template is the file's own; the messages are given as a whole, so no state is kept between requests.
        prompt = self.pipeline.get_tokenizer().apply_chat_template(body["messages"], add_generation_prompt=True)
        config.apply_chat_template = False
        with _turn:
            result = self.pipeline.generate([prompt], config, self._piece)
        metrics = result.perf_metrics
        usage = {
            "prompt_tokens": metrics.get_num_input_tokens(),
            "completion_tokens": metrics.get_num_generated_tokens(),
        }
        self._event(json.dumps({"choices": [], "usage": usage}))
        self._event("[DONE]")
        self.close_connection = True

    def _piece(self, text: str) -> Any:  # noqa: ANN401
        if text:
            self._event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}))
        return openvino_genai.StreamingStatus.RUNNING

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet: a line for each request would be measured too."""


def main() -> None:
    """Serve the file named on the command line until standard input ends."""
    Handler.pipeline = openvino_genai.LLMPipeline(sys.argv[1], "CPU")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ready at http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
