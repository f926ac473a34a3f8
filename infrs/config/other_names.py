"""Names of llama.cpp, vLLM, Ollama and older versions of infrs, with the names of infrs."""

from __future__ import annotations

OTHER_FLAGS = {
    "-m": "--model",
    "-hf": "--model",
    "--hf-repo": "--model",
    "-a": "infrs-export --model-id",
    "--alias": "infrs-export --model-id",
    "--served-model-name": "infrs-export --model-id",
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
}

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
