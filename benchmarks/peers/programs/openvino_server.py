"""OpenVINO GenAI's library on a GGUF file; needs only `openvino-genai`, in an environment of its own."""

import sys
from collections.abc import Callable
from typing import Any

import openvino_genai
from library_server import serve

pipeline = openvino_genai.LLMPipeline(sys.argv[1], "CPU")


def answer(body: dict[str, Any], piece: Callable[[str], None]) -> tuple[int, int]:
    """One greedy answer."""
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = body["max_tokens"]
    config.ignore_eos = bool(body.get("ignore_eos"))
    config.do_sample = False
    # The template is the file's own; the messages are given as a whole, so no state is kept between requests.
    prompt = pipeline.get_tokenizer().apply_chat_template(body["messages"], add_generation_prompt=True)
    config.apply_chat_template = False

    def streamed(text: str) -> Any:  # noqa: ANN401
        piece(text)
        return openvino_genai.StreamingStatus.RUNNING

    metrics = pipeline.generate([prompt], config, streamed).perf_metrics
    return metrics.get_num_input_tokens(), metrics.get_num_generated_tokens()


if __name__ == "__main__":
    serve(answer)
