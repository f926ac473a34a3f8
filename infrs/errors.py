"""One error tree.

Every error that infrs raises on purpose is an `InfrsError`: a stable `code`, a sentence that says what
to do next, and where a request field or a configuration key is at fault, its name in `param`.
HTTP statuses are the wire's business (`infrs.api.common.errors`); exit codes belong to the commands.
"""

from __future__ import annotations

from typing import ClassVar


class InfrsError(Exception):
    """Base of the tree. `str(error)` is the sentence for the user, one line.

    commands: command lines to choose from instead, of an error that knows some.
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
    """A bundle is absent, incomplete, altered or of another version than this server reads."""

    code = "invalid_bundle"
    exit_code = 3


class BundleNotFoundError(BundleError):
    """No bundle answers to the model, revision and dtype asked for."""

    code = "bundle_not_found"


class ExportError(InfrsError):
    """An export could not be made; nothing was published."""

    code = "export_failed"
    exit_code = 4


class SourceError(ExportError):
    """The model to export could not be found, read or accepted."""

    code = "source_error"


class ParityError(ExportError):
    """The exported graph does not answer as its source model does."""

    code = "parity_failed"


class DiskFullError(ExportError):
    """The cache's file system has too little space left."""

    code = "disk_full"
    exit_code = 5


class RequestError(InfrsError):
    """A request is not acceptable as it stands. `param` names the field."""

    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param)
        if code is not None:
            self.code = code  # type: ignore[misc]  # finer than the class: OpenAI names one code per cause


class UnsupportedParameterError(RequestError):
    """A field that infrs does not honour: refused by name, never ignored."""

    code = "unsupported_parameter"


class ContextLengthError(RequestError):
    """The prompt, or the prompt and the answer asked for, exceed the model's context."""

    code = "context_length_exceeded"


class ModelNotFoundError(InfrsError):
    """The request names a model that this server does not serve."""

    code = "model_not_found"


class ModelLoadingError(InfrsError):
    """The model is not loaded yet."""

    code = "model_loading"


class ModelUnloadedError(InfrsError):
    """The model was unloaded before the answer was complete."""

    code = "model_unloaded"


class QueueFullError(InfrsError):
    """The waiting queue is at its bound; try again later."""

    code = "queue_full"


class DrainingError(InfrsError):
    """The server is shutting down and takes no new requests."""

    code = "server_draining"


class EngineError(InfrsError):
    """The engine failed while it worked on a request."""

    code = "engine_error"


class OutOfMemoryError(InfrsError):
    """There is not the memory to do what the request asks for, now."""

    code = "out_of_memory"


class RequestTimeoutError(InfrsError):
    """The request took longer than `server.request_timeout`, or waited longer than `server.queue_timeout`."""

    code = "request_timeout"
