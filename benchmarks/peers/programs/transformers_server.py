"""transformers on PyTorch's CPU kernels: MODEL.gguf TOKENIZER float32|bfloat16.

It widens the GGUF file's weights. TOKENIZER is a bundle: transformers reads a GGUF file's own in minutes.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from library_server import serve
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer

path = Path(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=getattr(torch, sys.argv[3]))


class Pieces(BaseStreamer):
    """Sends each token's text as it comes; `put` is given the prompt first."""

    def __init__(self, piece: Callable[[str], None]) -> None:
        self.piece, self.count = piece, -1

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, then one token a call."""
        self.count += 1
        if self.count:
            self.piece(tokenizer.decode(value.flatten()) or " ")

    def end(self) -> None:
        """Hold nothing back, so nothing is left."""


def answer(body: dict[str, Any], piece: Callable[[str], None]) -> tuple[int, int]:
    """One greedy answer."""
    prompt = tokenizer.apply_chat_template(
        body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    pieces = Pieces(piece)
    least = {"min_new_tokens": body["max_tokens"]} if body.get("ignore_eos") else {}
    prompt.pop("token_type_ids", None)  # which the model does not take
    model.generate(**prompt, max_new_tokens=body["max_tokens"], do_sample=False, streamer=pieces, **least)
    return prompt["input_ids"].shape[1], pieces.count


if __name__ == "__main__":
    serve(answer)
