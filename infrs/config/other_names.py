"""Names of llama.cpp, vLLM, Ollama and older versions of infrs, with the names of infrs."""

from __future__ import annotations

# Flags with an equivalent.
OTHER_FLAGS = {
    "-m": "--model",
    "-hf": "--model",
    "--hf-repo": "--model",
    "-hfr": "--model",
    "-a": "--model-alias",
    "--alias": "--model-alias",
    "--served-model-name": "--model-alias",
    "-p": "--port",
    "-c": "--max-model-len",
    "--ctx-size": "--max-model-len",
    "--num-ctx": "--max-model-len",
    "--context-length": "--max-model-len",
    "--max-seq-len": "--max-model-len",
    "-t": "--threads",
    "--num-threads": "--threads",
    "-np": "--max-num-seqs",
    "--parallel": "--max-num-seqs",
    "--num-parallel": "--max-num-seqs",
    "-b": "--prefill-chunk",
    "--batch-size": "--prefill-chunk",
    "-ub": "--prefill-chunk",
    "--ubatch-size": "--prefill-chunk",
    "--max-num-batched-tokens": "--prefill-chunk",
    "-q": "--dtype",
    "--quantization": "--dtype",
    "--quantize": "--dtype",
    "--download-dir": "--cache-dir",
    "--kv-cache-memory-bytes": "--kv-budget-mb",
    "--api-key": "--api-keys-file",
    "--api-key-file": "--api-keys-file",
    "--allowed-origins": "--cors-origins",
    "--origins": "--cors-origins",
    "--timeout": "--request-timeout",
    "--tool-call-parser": "--tool-format",
    "--disable-log-requests": "--no-access-log",
    "--no-enable-log-requests": "--no-access-log",
    "--disable-uvicorn-access-log": "--no-access-log",
    "--uvicorn-log-level": "--log-level",
    "--otlp-traces-endpoint": "--traces",
    "--gpu-memory-utilization": "--kv-budget-mb",
    "-md": "--draft",
    "--model-draft": "--draft",
}

# Flags without an equivalent: the reason, and the flags.
_NEEDLESS = {
    "infrs runs on the CPUs of one machine": "-ngl --gpu-layers --n-gpu-layers --device -sm --split-mode -tp "
    "--tensor-parallel-size --pipeline-parallel-size --cpu-offload-gb",
    "batching is always continuous": "-cb --cont-batching",
    "the model's chat template is always used": "--jinja",
    "the graph decides whether attention is fused": "-fa --flash-attn",
    "prefixes are always cached": "--enable-prefix-caching --cache-prompt --cache-reuse",
    "prompts are always computed in chunks": "--enable-chunked-prefill",
    "tool calls are always parsed": "--enable-auto-tool-choice",
    "reasoning is always parsed": "--reasoning-parser --reasoning-format --enable-reasoning",
    "/metrics is always served": "--metrics",
    "there is no web page": "--no-webui --no-ui --webui",
    "infrs runs no code of a model": "--trust-remote-code",
    "set the variable HF_TOKEN": "-hft --hf-token",
    "name an embedding model, and /v1/embeddings serves it": "--embedding --embeddings --task --runner --pooling",
    "infrs-export copies the template from the model's folder": "--chat-template --chat-template-file",
    "put a proxy that ends TLS in front of infrs": "--ssl-certfile --ssl-cert-file --ssl-keyfile --ssl-key-file",
    "name the draft model with --draft": "--speculative-config",
}
NEEDLESS_FLAGS = {flag: reason for reason, flags in _NEEDLESS.items() for flag in flags.split()}

_DTYPES = {
    "float32": ("f32", "fp32", "float"),
    "float16": ("f16", "fp16", "half"),
    "bfloat16": ("bf16",),
    "int8": ("q8", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q5_1", "8bit", "fp8", "w8a8"),
    "int4": (
        "q4",
        "q4_0",
        "q4_1",
        "q4_k",
        "q4_k_m",
        "q4_k_s",
        "iq4_nl",
        "iq4_xs",
        "4bit",
        "awq",
        "gptq",
        "nf4",
        "mxfp4",
    ),
}
OTHER_DTYPES = {other: ours for ours, others in _DTYPES.items() for other in others}

# Old values of `engine.kernels`, and the name and value of the `engine` setting that replaces each.
OLD_KERNELS = {"precise": ("precision", "high"), "avx2": ("instructions", "avx2")}
