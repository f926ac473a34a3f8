"""Convert errors of the Hub and the network to errors with one sentence."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2  # huggingface_hub's own client
from huggingface_hub import constants, errors

from infrs.errors import DiskFullError, InfrsError, SourceError, without_password

_UNREACHABLE = (
    "try again later, check the network and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what the local cache has"
)

_NO_HUB = (  # what huggingface_hub raises for an answer that lacks a header or a field, or is no JSON
    errors.FileMetadataError,
    json.JSONDecodeError,
    AssertionError,
    AttributeError,
    KeyError,
    RecursionError,
    TypeError,
)


@contextmanager
def explained(model: str, revision: str) -> Iterator[None]:
    """Convert the errors of huggingface_hub to SourceError and DiskFullError.

    huggingface_hub's errors have no class in common, and an answer that no Hub gives raises any of Python's.
    """
    try:
        yield
    except InfrsError:
        raise
    except Exception as error:
        raise _explanation(model, revision, error) from error


def not_in_cache(model: str, revision: str, file: str = "") -> SourceError:
    """Return the offline error for a model, or a file of it, that is not on this machine."""
    what = f"{file} of {model}" if file else model
    return SourceError(
        f"{what} at {revision} is not in the local cache and HF_HUB_OFFLINE is set; "
        "run the same command once without it"
    )


def _explanation(model: str, revision: str, error: Exception) -> InfrsError:  # noqa: PLR0911  # a table, in order
    """Return the error for an exception, from specific to general classes."""
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        if constants.HF_HUB_OFFLINE:
            return not_in_cache(model, revision)
        if isinstance(error.__cause__, Exception):  # the error before it looked for the file on this machine
            return _explanation(model, revision, error.__cause__)
    if isinstance(error, errors.HFValidationError):
        return SourceError(f"{model} is not a valid name of a model on the Hub; check its spelling")
    if isinstance(error, _NO_HUB):
        return SourceError(
            f"{without_password(constants.ENDPOINT)} does not answer as a Hub does; "
            "check HF_ENDPOINT, and any proxy on the way"
        )
    if isinstance(error, httpx2.HTTPError):
        return SourceError(_sentence(model, revision, error))
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    reason = without_password(" ".join(str(error).split()))
    return SourceError(f"huggingface_hub cannot fetch {model}: {reason}")


def _sentence(  # noqa: PLR0911  # a table, in order
    model: str, revision: str, error: httpx2.HTTPError
) -> str:
    hub = without_password(constants.ENDPOINT)
    match error:
        case errors.GatedRepoError():
            return f"{model} is gated: accept its licence at {hub}/{model}, then set HF_TOKEN to your token"
        case errors.RevisionNotFoundError():
            return f"{model} has no revision {revision!r}; check --revision"
        case errors.RepositoryNotFoundError():
            return (
                f"there is no model {model} that this account may read; "
                "check the name, or set HF_TOKEN if it is private"
            )
        case errors.DisabledRepoError():
            return f"{hub} does not give out {model} any more; choose another model"
        case errors.RemoteEntryNotFoundError():
            file = str(error.response.url).rpartition("/")[2]
            return f"the Hub lists {file} of {model}, but it is not there; try again later"
        case httpx2.TooManyRedirects():
            return f"{hub} redirects requests for {model} in a circle; try again later"
        case httpx2.RemoteProtocolError() | httpx2.ReadError():
            return (
                f"an answer of {hub} broke off or is no HTTP; "
                "run the same command again to resume the download, or check HF_ENDPOINT"
            )
        case httpx2.TimeoutException():
            return f"{hub} does not answer; {_UNREACHABLE}"
        case errors.HfHubHTTPError(response=httpx2.Response() as response):
            return _http_sentence(model, response)
        case httpx2.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return f"the certificate of {hub} is not trusted here; install ca-certificates, or set SSL_CERT_FILE"
    return f"{hub} cannot be reached ({type(error).__name__}); {_UNREACHABLE}"


def _of_system(error: OSError) -> InfrsError:
    kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else SourceError
    return kind(
        f"{constants.HF_HUB_CACHE} cannot be written ({error.strerror}); "
        "free some space there, or set HF_HOME to another place"
    )


def _http_sentence(model: str, response: httpx2.Response) -> str:
    match response.status_code:
        case 401:
            return "the Hub refuses the token: set HF_TOKEN to a valid one, or unset it for public models"
        case 403:
            return f"this token may not read {model}: accept the model's licence or use another HF_TOKEN"
        case status:
            return f"the Hub answered {status} for {model}; try again later"
