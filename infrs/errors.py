"""The errors of infrs.

Every expected error is an `InfrsError`. It has a stable `code` and a sentence with the problem and the fix. If a
request field or a configuration key is wrong, `param` names it. `infrs.api.common.errors` maps codes to HTTP statuses.
"""

from __future__ import annotations

import re
from typing import ClassVar

_USER = re.compile(r"(://)[^\s'\"]*@")


def without_password(text: str) -> str:
    """Return `text` without the `user:password@` of URLs, which no error may show."""
    return _USER.sub(r"\1", text)


class InfrsError(Exception):
    """The base class. `str(error)` is the sentence for the user, one line.

    commands: command lines that the user can run instead.
    """

    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = 1
    commands: tuple[str, ...] = ()

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ConfigError(InfrsError):
    """A setting is unknown, of the wrong type or out of range. `param` is its dotted key."""

    code = "invalid_config"
    exit_code = 2


class ModelNotNamedError(ConfigError):
    """No setting names a model, and several are possible."""

    def __init__(self, message: str, *, commands: tuple[str, ...]) -> None:
        super().__init__(message, param="model.model_id")
        self.commands = commands


class BundleError(InfrsError):
    """A bundle is absent, incomplete, changed or of a version that this server does not read."""

    code = "invalid_bundle"
    exit_code = 3


class BundleNotFoundError(BundleError):
    """The cache has no bundle of the requested model, revision and dtype."""

    code = "bundle_not_found"


class ExportError(InfrsError):
    """An export failed; nothing was published."""

    code = "export_failed"
    exit_code = 4


class SourceError(ExportError):
    """The model to export could not be found, read or accepted."""

    code = "source_error"


class ParityError(ExportError):
    """The exported graph's outputs differ from the source model's."""

    code = "parity_failed"


class DiskFullError(ExportError):
    """The cache's file system has too little space left."""

    code = "disk_full"
    exit_code = 5


class RequestError(InfrsError):
    """A request is invalid. `param` names the field."""

    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param)
        if code is not None:
            self.code = code  # type: ignore[misc]  # finer than the class: OpenAI names one code per cause


class UnsupportedParameterError(RequestError):
    """A request has a field that infrs does not support."""

    code = "unsupported_parameter"


class ContextLengthError(RequestError):
    """A text exceeds what the model or the server takes.

    num_tokens: of the text, at least. max_tokens: the most that it may have. None if the error is about no prompt.
    """

    code = "context_length_exceeded"

    def __init__(
        self, message: str, *, param: str | None = None, num_tokens: int | None = None, max_tokens: int | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.num_tokens = num_tokens
        self.max_tokens = max_tokens


def prompt_too_long(num_tokens: int, max_model_len: int, param: str) -> ContextLengthError:
    """Return the error of a prompt that leaves no room for an answer.

    Clients find the number of tokens by OpenAI's words, "maximum context length is".
    """
    return ContextLengthError(
        f"This model's maximum context length is {max_model_len} tokens, with the answer. However, your {param} "
        f"resulted in {num_tokens} tokens; shorten {param}",
        param=param,
        num_tokens=num_tokens,
        max_tokens=max_model_len - 1,
    )


class ModelNotFoundError(InfrsError):
    """The request names a model that this server does not serve."""

    code = "model_not_found"


class ModelLoadingError(InfrsError):
    """The model is not loaded yet."""

    code = "model_loading"


class ModelLoadError(InfrsError):
    """The model could not be loaded."""

    code = "model_load_failed"


class ModelUnloadedError(InfrsError):
    """The model was unloaded before the answer was complete."""

    code = "model_unloaded"


class QueueFullError(InfrsError):
    """The queue is full; try again later."""

    code = "queue_full"


class DrainingError(InfrsError):
    """The server is shutting down and takes no new requests."""

    code = "server_draining"


class EngineError(InfrsError):
    """The engine failed while it worked on a request."""

    code = "engine_error"


class OutOfMemoryError(InfrsError):
    """The server has too little memory for the request now."""

    code = "out_of_memory"


class RequestTimeoutError(InfrsError):
    """The request took longer than `server.request_timeout`, or waited longer than `server.queue_timeout`."""

    code = "request_timeout"
