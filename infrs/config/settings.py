"""Every setting: its type, default, bounds and description. `infrs/config/merge.py` reads their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from infrs.bundle.manifest import AUTO_DTYPES, DtypeChoice
from infrs.errors import ConfigError
from infrs.native.options import Instructions, KernelOptions, KVDtype, Library, Precision

KEYS_VARIABLE = "INFRS_API_KEYS"  # read by infrs/http/auth.py only: flags and /props would show a setting

ChatFormat = Literal["auto", "simple"]
ToolFormatName = Literal[
    "auto", "seed_oss", "qwen3_coder", "glm", "minimax_m2", "hunyuan3", "minicpm5", "deepseek_v3.2", "deepseek_v4",
    "gigachat3.5", "lfm2", "olmo3", "gemma4", "function_gemma", "pythonic", "mistral", "hermes", "harmony", "granite",
    "phi", "firefunction", "deepseek_v3", "deepseek_v3.1", "kimi", "solar", "command", "command_r", "nemotron",
    "tool_calls", "gigachat3", "hyperclovax", "internlm", "apertus", "functionary", "functionary_3.2", "glm4",
    "llama3", "gemma", "generic",
]  # fmt: skip
GenerationConfig = Literal["auto", "none"]
LoadTime = Literal["start", "demand"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_MODEL_ID = "Hub id, or path of a model folder or .gguf file."
_first, *_others = AUTO_DTYPES["chat"]


class Section(BaseModel):
    """A section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ServerSettings(Section):
    """The settings of the HTTP server. Durations are in seconds."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=3000, ge=0, le=65535, description="TCP port. 0: any free port.")
    max_body_bytes: int = Field(
        default=4 << 20, ge=1024, le=1 << 30, description="Maximum size of a request body, in bytes."
    )
    request_timeout: float = Field(
        default=600.0,
        gt=0,
        le=86400,
        description="Maximum duration of a request, in seconds, including its time in the queue.",
    )
    send_timeout: float = Field(
        default=60.0,
        gt=0,
        le=86400,
        description="Close a connection if its client reads nothing for this many seconds.",
    )
    ping_interval: float = Field(
        default=10.0,
        gt=0,
        le=86400,
        description="Send a comment on a stream that has been silent for this many seconds.",
    )
    drain_timeout: float = Field(
        default=30.0,
        ge=0,
        le=86400,
        description="Time that a stopping server gives running requests to finish, in seconds.",
    )
    header_timeout: float = Field(
        default=10.0,
        gt=0,
        le=86400,
        description="Maximum time for a request's headers to arrive, in seconds from their first byte, for the first "
        "request from the start of the connection.",
    )
    body_timeout: float = Field(
        default=60.0,
        gt=0,
        le=86400,
        description="Maximum time for a request's body to arrive, in seconds from the end of its headers.",
    )
    queue_timeout: float = Field(
        default=120.0, gt=0, le=86400, description="Maximum time that a request waits for a slot, in seconds."
    )
    stall_timeout: float = Field(
        default=120.0, gt=0, le=86400, description="Exit if the engine makes no step for this many seconds."
    )
    load_timeout: float = Field(
        default=1800.0,
        gt=0,
        le=86400,
        description="Maximum time of the load of a model, in seconds. A server that starts exits then.",
    )
    max_stored_responses: int = Field(
        default=1024, ge=0, le=1 << 20, description="Maximum number of responses that /v1/responses stores. 0: none."
    )
    stored_responses_mb: int = Field(
        default=64, ge=0, le=1 << 20, description="Maximum memory of the stored responses, in MiB. 0: none are stored."
    )
    files_dir: str = Field(
        default="",
        max_length=4096,
        description="Directory of the files of /v1/files and /v1/batches. Empty: none are stored.",
    )
    files_mb: int = Field(
        default=1024, ge=1, le=1 << 24, description="Maximum size of all stored files together, in MiB."
    )
    max_file_mb: int = Field(default=200, ge=1, le=1 << 20, description="Maximum size of an uploaded file, in MiB.")
    max_batch_rows: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Maximum number of sequences of batches that run in parallel. 0: half of engine.max_num_seqs.",
    )
    models_memory_mb: int = Field(
        default=0,
        ge=0,
        le=1 << 24,
        description="Memory of all loaded models together, in MiB. Models without requests are unloaded to make room, "
        "the least recently used ones first. 0: the memory that is free at the start, if a model loads on demand; "
        "else no bound.",
    )
    max_connections: int = Field(default=1024, ge=1, le=1 << 20, description="Maximum number of open connections.")
    max_connections_per_address: int = Field(
        default=0,
        ge=0,
        le=1 << 20,
        description="Maximum number of open connections from an IP address. 0: three quarters of the former.",
    )
    api_keys_file: str = Field(
        default="",
        max_length=4096,
        description="File with one API key per line. Empty: keys from INFRS_API_KEYS, if it is set.",
    )
    allow_unauthenticated: bool = Field(
        default=False, description="Listen on an address that other machines can reach without any API key."
    )
    allowed_hosts: str = Field(
        default="",
        max_length=4096,
        description="Host names that clients may use, comma-separated. IP addresses are always allowed, "
        "and so are localhost and host.docker.internal on a loopback address.",
    )
    cors_origins: str = Field(
        default="", max_length=4096, description="Origins of other web pages that may call it, comma-separated. *: all."
    )
    web: bool = Field(default=True, description="Serve the web page at /.")
    access_log: bool = Field(default=True, description="Log one line per request.")
    traces: bool = Field(default=False, description="Send OpenTelemetry traces, as the OTEL_ variables configure them.")
    log_level: LogLevel = Field(default="info", description="Minimum severity of log messages.")
    log_format: LogFormat = Field(default="text", description="text: lines for people; json: one JSON object per line.")


class ModelSettings(Section):
    """The settings of a model: its bundle and its formats."""

    model_id: str = Field(
        default="TinyLlama/TinyLlama-1.1B-Chat-v1.0", min_length=1, max_length=4096, description=_MODEL_ID
    )
    model_alias: str = Field(
        default="",
        max_length=4096,
        description="More names under which requests find the model, comma-separated.",
    )
    revision: str = Field(
        default="main", min_length=1, max_length=256, description="Branch, tag or commit of a Hub model."
    )
    dtype: DtypeChoice = Field(
        default="auto",
        description=f"How the weights are stored. auto: as in the cached bundle ({_first}, else {', '.join(_others)}); "
        f"without one, export {_first}. For embedding models {AUTO_DTYPES['embedding'][0]} comes first.",
    )
    cache_dir: Path = Field(default=Path("models_cache"), description="Directory of the exported bundles.")
    chat_format: ChatFormat = Field(
        default="auto", description="auto: the model's chat template; simple: `role: content` lines."
    )
    tool_format: ToolFormatName = Field(
        default="auto", description="How the model writes tool calls. auto: as its chat template shows."
    )
    generation_config: GenerationConfig = Field(
        default="auto",
        description="Default sampling parameters. auto: those of the model's generation_config.json; "
        "none: those of OpenAI's API.",
    )

    draft: str = Field(
        default="",
        max_length=4096,
        description="Draft model, which proposes tokens while one sequence decodes. A dtype, such as int4: the same "
        "model in that dtype; otherwise a Hub id, the path of a model or bundle, or ID:DTYPE. Empty: none.",
    )
    load: LoadTime = Field(
        default="start",
        description="When the model is loaded. start: before the server is ready; demand: for its first request.",
    )
    keep_alive: float = Field(
        default=-1.0,
        ge=-1,
        le=1 << 24,
        description="Unload the model this many seconds after its last request; the next one loads it again. "
        "0: immediately; -1: never.",
    )
    pinned: bool = Field(default=False, description="Never unload the model, neither for others nor after keep_alive.")

    @property
    def aliases(self) -> list[str]:
        """Return the names of `model_alias`."""
        return [name for part in self.model_alias.split(",") if (name := part.strip())]


class ModelEntry(ModelSettings):
    """One of several models. The default of its `cache_dir` is `model.cache_dir`."""

    model_id: str = Field(min_length=1, max_length=4096, description=_MODEL_ID)


class EngineSettings(Section):
    """The settings of the engine."""

    threads: int = Field(
        default=0, ge=0, le=1024, description="Compute threads. 0: one per physical core, within the CPU quota."
    )
    kernels: Library = Field(
        default="auto",
        description="auto: infrs's kernels for every node that they implement; onnxruntime: none of them.",
    )
    instructions: Instructions = Field(
        default="auto",
        description="Instruction set of infrs's kernels. auto: the best that the processor has; avx-vnni: no AVX-512; "
        "avx2: neither AVX-512 nor AVX-VNNI.",
    )
    precision: Precision = Field(
        default="auto",
        description="Precision of infrs's kernels. auto: activations have 8 bits next to int8 and int4 weights (16 in "
        "the output layer), and 16 next to bfloat16 weights if the processor has AVX512-BF16; high: 16 next to 8-bit "
        "weights, 32 next to bfloat16 weights, and 32-bit keys and values.",
    )
    kv_dtype: KVDtype = Field(
        default="auto",
        description="Type of stored keys and values. auto: 16 bits next to int8, int4 and bfloat16 weights, else 32 "
        "bits; float16 halves their memory, int8 halves it again, float32 is exact.",
    )
    speculation: bool = Field(
        default=True,
        description="Propose draft tokens, from the text so far (prompt lookup) and by model.draft. Answers are the "
        "same without.",
    )
    max_num_seqs: int = Field(default=8, ge=1, le=1024, description="Maximum number of sequences that run in parallel.")
    max_model_len: int = Field(
        default=0,
        ge=0,
        le=1 << 24,
        description="Maximum length of prompt and answer together, in tokens. 0: automatic.",
    )
    prefill_chunk: int = Field(
        default=128, ge=1, le=65536, description="Prompt tokens computed between two decode steps."
    )
    max_queue: int = Field(default=64, ge=0, le=1 << 20, description="Maximum number of requests that wait for a slot.")
    kv_budget_mb: int = Field(
        default=0,
        ge=0,
        le=1 << 24,
        description="Memory for keys and values (the KV cache) of each chat model, in MiB. 0: half of the free memory, "
        "of which at most an eighth of all memory is for the prefix cache alone. Several chat models share it equally.",
    )
    cache_idle_timeout: float = Field(
        default=600.0,
        ge=0,
        le=1 << 24,
        description="Give the memory of the prefix cache back after this many seconds without a request. 0: never.",
    )

    @property
    def kernel_options(self) -> KernelOptions:
        """Return the settings that choose the kernels."""
        return KernelOptions(self.kernels, self.instructions, self.precision, self.kv_dtype)


def _entry(value: object) -> object:
    """Convert an id alone to an entry; return any other value unchanged."""
    return {"model_id": value} if isinstance(value, str) else value


class Settings(Section):
    """All settings of a server."""

    server: ServerSettings = ServerSettings()
    model: ModelSettings = ModelSettings()
    models: tuple[Annotated[ModelEntry, BeforeValidator(_entry)], ...] = Field(
        default=(),
        max_length=64,
        description="Models to serve in addition to `model`, or instead of it if `model.model_id` is not set: ids, "
        "paths, or objects with the keys of `model`.",
    )
    engine: EngineSettings = EngineSettings()

    @property
    def all_models(self) -> tuple[ModelSettings, ...]:
        """Return every model to serve, `model` first."""
        cache = {"cache_dir": self.model.cache_dir}
        entries = [
            entry if "cache_dir" in entry.model_fields_set else entry.model_copy(update=cache) for entry in self.models
        ]
        return (*([] if self.models and not self._names_model else [self.model]), *entries)

    @property
    def names_models(self) -> bool:
        """Return whether any layer sets the models to serve."""
        return self._names_model or bool(self.models)

    @property
    def _names_model(self) -> bool:
        return "model_id" in self.model.model_fields_set

    def check_models(self) -> None:
        """Raise ConfigError for a model that is named twice, and for keys of a `model` that is not named."""
        ids = [model.model_id for model in self.all_models]
        twice = next((model_id for model_id in ids if ids.count(model_id) > 1), None)
        if twice is not None:
            raise ConfigError(f"models: {twice} is named twice; remove one of them", param="models")
        stray = sorted(self.model.model_fields_set - {"cache_dir"})
        if self.models and stray and not self._names_model:
            key = f"model.{stray[0]}"
            raise ConfigError(
                f"{key} is set, but of no model: set model.model_id too, or {stray[0]} in an entry of `models`",
                param=key,
            )


SECTIONS: dict[str, type[Section]] = {"server": ServerSettings, "model": ModelSettings, "engine": EngineSettings}
