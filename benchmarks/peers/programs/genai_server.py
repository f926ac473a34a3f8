"""onnxruntime-genai's library on a folder that its builder made; needs only `onnxruntime-genai`."""

import json
import sys
from collections.abc import Callable
from typing import Any

import onnxruntime_genai
from library_server import serve

model = onnxruntime_genai.Model(sys.argv[1])
tokenizer = onnxruntime_genai.Tokenizer(model)


def answer(body: dict[str, Any], piece: Callable[[str], None]) -> tuple[int, int]:
    """One greedy answer."""
    prompt = tokenizer.encode(tokenizer.apply_chat_template(json.dumps(body["messages"]), add_generation_prompt=True))
    longest = len(prompt) + body["max_tokens"]
    params = onnxruntime_genai.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=longest, min_length=longest if body.get("ignore_eos") else 0)
    generator = onnxruntime_genai.Generator(model, params)
    generator.append_tokens(prompt)
    pieces, count = tokenizer.create_stream(), 0
    while not generator.is_done():
        generator.generate_next_token()
        count += 1
        piece(pieces.decode(generator.get_next_tokens()[0]) or " ")
    return len(prompt), count


if __name__ == "__main__":
    serve(answer)
