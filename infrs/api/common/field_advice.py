"""Field names of llama.cpp's server, Ollama and transformers, and the fields to use instead."""

from __future__ import annotations

from collections.abc import Container

_LENGTH = ("max_tokens", "max_output_tokens")

# Advice names the first field that the endpoint has.
_INSTEAD: dict[str, tuple[str, ...]] = {
    "n_predict": _LENGTH,
    "num_predict": _LENGTH,
    "max_new_tokens": _LENGTH,
    "n_probs": ("top_logprobs", "logprobs"),
    "stop_sequences": ("stop",),
    "format": ("response_format", "text", "output_config"),
    "think": ("chat_template_kwargs", "reasoning", "thinking"),
}
_NEEDLESS = {
    "num_ctx": "the context is as long as engine.max_model_len says",
    "n_ctx": "the context is as long as engine.max_model_len says",
    "options": "send its entries as fields of their own, next to `model`",
}


def advice(word: str, known: Container[str]) -> str | None:
    """Return what to do about an unknown field that another server knows. known: the fields of the endpoint."""
    instead = next((name for name in _INSTEAD.get(word, ()) if name in known), None)
    if instead is not None:
        return f"use {instead}"
    generates = "temperature" in known  # the reasons concern generation
    return f"remove it: {_NEEDLESS[word]}" if word in _NEEDLESS and generates else None
