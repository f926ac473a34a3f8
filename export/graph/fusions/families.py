"""The model families of the fused graph, one row each, with properties that a config does not show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """A model type of transformers.

    architecture: the class of its causal language model. interleaved: rotary embeddings rotate neighbouring features,
    not halves. window_in_config: the attention reads `config.sliding_window`; otherwise an attribute of the attention
    module counts. softcap: the attention caps its scores with `attn_logit_softcapping`. norm_adds_one: RMS norms
    multiply by 1 + weight.
    """

    architecture: str
    interleaved: bool = False
    window_in_config: bool = False
    softcap: bool = False
    norm_adds_one: bool = False


# An allow-list: `tests/export/test_architectures.py` compares each family with transformers.
FAMILIES = {
    "arcee": Family("ArceeForCausalLM"),
    "ernie4_5": Family("Ernie4_5ForCausalLM", interleaved=True),
    "gemma": Family("GemmaForCausalLM", norm_adds_one=True),
    "gemma2": Family("Gemma2ForCausalLM", softcap=True, norm_adds_one=True),
    "gemma3_text": Family("Gemma3ForCausalLM", norm_adds_one=True),
    "glm": Family("GlmForCausalLM", interleaved=True),
    "glm4": Family("Glm4ForCausalLM", interleaved=True),
    "gpt2": Family("GPT2LMHeadModel"),
    "granite": Family("GraniteForCausalLM"),
    "helium": Family("HeliumForCausalLM", interleaved=True),
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM", window_in_config=True),
    "olmo": Family("OlmoForCausalLM"),
    "olmo2": Family("Olmo2ForCausalLM"),
    "phi3": Family("Phi3ForCausalLM", window_in_config=True),
    "qwen2": Family("Qwen2ForCausalLM"),
    "qwen3": Family("Qwen3ForCausalLM"),
    "smollm3": Family("SmolLM3ForCausalLM"),
    "starcoder2": Family("Starcoder2ForCausalLM", window_in_config=True),
}
