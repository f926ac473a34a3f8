"""API keys: their sources and their check."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from infrs.api.common.errors import AuthenticationError, MissingKeyError
from infrs.config.settings import KEYS_VARIABLE, ServerSettings
from infrs.errors import ConfigError

logger = logging.getLogger("infrs.server")

_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]{8,512}")  # printable ASCII but the comma, which separates


class Keys:
    """The API keys of a server, as digests. Without keys, every client may call it."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in sorted(set(keys))]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def replace(self, keys: Keys) -> None:
        """Replace these keys by those of another set."""
        self._digests = keys._digests

    def tenant(self, authorization: list[str]) -> str:
        """Return the tenant of the `Authorization` headers of a request; "" on a server without keys.

        The duration reveals nothing about a key: the digest is compared, in constant time, with every known one.
        Raises MissingKeyError, AuthenticationError.
        """
        if not self._digests:
            return ""
        scheme, _, key = (authorization[0] if authorization else "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise MissingKeyError("this server requires an API key; send `Authorization: Bearer <key>`")
        given = _digest(key)
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if len(authorization) > 1 or not any(matches):
            raise AuthenticationError("this API key is not one of this server's")
        return given.hex()[:32]


def load_keys(settings: ServerSettings, environ: Mapping[str, str] | None = None) -> Keys:
    """Return the keys of `server.api_keys_file`, one per line with `#` comments, and of INFRS_API_KEYS, with commas.

    Raises ConfigError if the file is unreadable or empty, if a key is malformed, and if other machines could reach the
    server without a key although `server.allow_unauthenticated` is not set.
    """
    environ = os.environ if environ is None else environ
    keys = [(key.strip(), KEYS_VARIABLE) for key in environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    if settings.api_keys_file:
        keys += _read(Path(settings.api_keys_file))
    for key, origin in keys:
        if not _KEY.fullmatch(key):
            raise ConfigError(
                f"{origin}: a key is not allowed; allowed: 8 to 512 printable ASCII characters without blank or comma",
                param="server.api_keys_file",
            )
    if not keys and not settings.allow_unauthenticated and not is_loopback(settings.host):
        raise ConfigError(
            f"server.host {settings.host} can be reached from beyond this machine and no API key is set; set "
            f"server.api_keys_file or {KEYS_VARIABLE}, or server.allow_unauthenticated to let anyone in",
            param="server.host",
        )
    return Keys(key for key, _ in keys)


def reread_keys(keys: Keys, settings: ServerSettings) -> None:
    """Read `server.api_keys_file` again into `keys`. An invalid file changes nothing and is logged."""
    if not settings.api_keys_file:
        logger.warning("SIGHUP: server.api_keys_file is not set, so there are no API keys to reread")
        return
    try:
        keys.replace(load_keys(settings))
    except ConfigError as error:
        logger.error("SIGHUP: the API keys stay as they are: %s", error)
    else:
        logger.info("SIGHUP: reread the API keys of %s", settings.api_keys_file)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listening address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(
            f"server.api_keys_file: {path} cannot be read: {error.strerror}", param="server.api_keys_file"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(f"server.api_keys_file: {path} is not text", param="server.api_keys_file") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        logger.warning("%s can be read by others than its owner; run: chmod 600 %s", path, path)
    named = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    keys = [(key, f"{path}, line {number}") for number, key in named if key]
    if not keys:
        raise ConfigError(f"server.api_keys_file: {path} holds no key", param="server.api_keys_file")
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
