"""The model families of the fused graph, one row each, with properties that a config does not show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """A model type of transformers.

    architecture: the class of its causal language model. interleaved: rotary embeddings rotate neighbouring features,
    not halves. window_in_config: the attention reads `config.sliding_window`; otherwise an attribute of the attention
    module counts. softcap: the attention caps its scores with `attn_logit_softcapping`. norm_adds_one: RMS norms
    multiply by 1 + weight. norm_after_rotary: the norms of query and key follow the rotation. rotates_windows: in a
    model with windows, only the layers that have one rotate. clips: `clip_qkv` bounds query, key and value.
    recurrent: what `layer_types` calls the layers with states of a fixed size.
    """

    architecture: str
    interleaved: bool = False
    window_in_config: bool = False
    softcap: bool = False
    norm_adds_one: bool = False
    norm_after_rotary: bool = False
    rotates_windows: bool = False
    clips: bool = False
    recurrent: tuple[str, ...] = ()


_LINEAR, _CONV, _HYBRID = ("linear_attention", "mamba", "attention", "mlp"), ("conv",), ("hybrid",)

# An allow-list: `tests/export/test_architectures.py` compares each family with transformers.
FAMILIES = {
    "afmoe": Family("AfmoeForCausalLM", rotates_windows=True),
    "apertus": Family("ApertusForCausalLM"),
    "arcee": Family("ArceeForCausalLM"),
    "bamba": Family("BambaForCausalLM", recurrent=_LINEAR),
    "cohere": Family("CohereForCausalLM", interleaved=True),
    "cohere2": Family("Cohere2ForCausalLM", interleaved=True, rotates_windows=True),
    "cwm": Family("CwmForCausalLM"),
    "deepseek_v2": Family("DeepseekV2ForCausalLM", interleaved=True),
    "deepseek_v3": Family("DeepseekV3ForCausalLM", interleaved=True),
    "dots1": Family("Dots1ForCausalLM"),
    "ernie4_5": Family("Ernie4_5ForCausalLM", interleaved=True),
    "ernie4_5_moe": Family("Ernie4_5_MoeForCausalLM", interleaved=True),
    "exaone": Family("LlamaForCausalLM"),
    "exaone4": Family("Exaone4ForCausalLM", rotates_windows=True),
    "exaone_moe": Family("ExaoneMoeForCausalLM", rotates_windows=True),
    "falcon": Family("FalconForCausalLM"),
    "falcon_h1": Family("FalconH1ForCausalLM", recurrent=_HYBRID),
    "flex_olmo": Family("FlexOlmoForCausalLM"),
    "gemma": Family("GemmaForCausalLM", norm_adds_one=True),
    "gemma2": Family("Gemma2ForCausalLM", softcap=True, norm_adds_one=True),
    "gemma3_text": Family("Gemma3ForCausalLM", norm_adds_one=True),
    "gemma3n_text": Family("Gemma3nForCausalLM"),
    "gemma4_text": Family("Gemma4ForCausalLM"),
    "glm": Family("GlmForCausalLM", interleaved=True),
    "glm4": Family("Glm4ForCausalLM", interleaved=True),
    "glm4_moe": Family("Glm4MoeForCausalLM"),
    "glm4_moe_lite": Family("Glm4MoeLiteForCausalLM", interleaved=True),
    "gpt2": Family("GPT2LMHeadModel"),
    "gpt_neox": Family("GPTNeoXForCausalLM"),
    "gpt_oss": Family("GptOssForCausalLM"),
    "granite": Family("GraniteForCausalLM"),
    "granitemoe": Family("GraniteMoeForCausalLM"),
    "granitemoehybrid": Family("GraniteMoeHybridForCausalLM", recurrent=_LINEAR),
    "granitemoeshared": Family("GraniteMoeSharedForCausalLM"),
    "helium": Family("HeliumForCausalLM", interleaved=True),
    "hunyuan_v1_dense": Family("HunYuanDenseV1ForCausalLM", norm_after_rotary=True),
    "hunyuan_v1_moe": Family("HunYuanMoEV1ForCausalLM", norm_after_rotary=True),
    "hy_v3": Family("HYV3ForCausalLM"),
    "hyperclovax": Family("HyperCLOVAXForCausalLM"),
    "internlm3": Family("LlamaForCausalLM"),
    "iquestcoder": Family("LlamaForCausalLM"),
    "jais2": Family("Jais2ForCausalLM"),
    "lfm2": Family("Lfm2ForCausalLM", recurrent=_CONV),
    "lfm2_moe": Family("Lfm2MoeForCausalLM", recurrent=_CONV),
    "llama": Family("LlamaForCausalLM"),
    "mamba2": Family("Mamba2ForCausalLM", recurrent=_LINEAR),
    "mellum": Family("MellumForCausalLM"),
    "minicpm3": Family("MiniCPM3ForCausalLM"),
    "minimax_m2": Family("MiniMaxM2ForCausalLM"),
    "ministral": Family("MinistralForCausalLM"),
    "ministral3": Family("Ministral3ForCausalLM", window_in_config=True),
    "mistral": Family("MistralForCausalLM", window_in_config=True),
    "mixtral": Family("MixtralForCausalLM", window_in_config=True),
    "nemotron": Family("NemotronForCausalLM"),
    "nemotron_h": Family("NemotronHForCausalLM", recurrent=_LINEAR),
    "olmo": Family("OlmoForCausalLM", clips=True),
    "olmo2": Family("Olmo2ForCausalLM"),
    "olmo3": Family("Olmo3ForCausalLM"),
    "olmo_hybrid": Family("OlmoHybridForCausalLM", recurrent=_LINEAR),
    "olmoe": Family("OlmoeForCausalLM", clips=True),
    "phi": Family("PhiForCausalLM"),
    "phi3": Family("Phi3ForCausalLM", window_in_config=True),
    "phimoe": Family("PhimoeForCausalLM", window_in_config=True),
    "qwen2": Family("Qwen2ForCausalLM"),
    "qwen2_moe": Family("Qwen2MoeForCausalLM"),
    "qwen3": Family("Qwen3ForCausalLM"),
    "qwen3_5_moe_text": Family("Qwen3_5MoeForCausalLM", norm_adds_one=True, recurrent=_LINEAR),
    "qwen3_5_text": Family("Qwen3_5ForCausalLM", norm_adds_one=True, recurrent=_LINEAR),
    "qwen3_moe": Family("Qwen3MoeForCausalLM"),
    "qwen3_next": Family("Qwen3NextForCausalLM", norm_adds_one=True, recurrent=_LINEAR),
    "sarvam_mla": Family("DeepseekV3ForCausalLM", interleaved=True),
    "seed_oss": Family("SeedOssForCausalLM"),
    "smollm3": Family("SmolLM3ForCausalLM"),
    "solar_open": Family("SolarOpenForCausalLM"),
    "stablelm": Family("StableLmForCausalLM"),
    "starcoder2": Family("Starcoder2ForCausalLM", window_in_config=True),
    "vaultgemma": Family("VaultGemmaForCausalLM", softcap=True, norm_adds_one=True),
    "youtu": Family("YoutuForCausalLM", interleaved=True),
}
