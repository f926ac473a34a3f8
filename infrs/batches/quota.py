"""The bytes that stored files may take, shared among API keys."""

from __future__ import annotations

import threading
from collections import Counter

from infrs.api.common.errors import StorageFullError

_KEPT_PART = 4  # a key leaves a quarter as many bytes as it has for other keys


class Quota:
    """Counts bytes by tenant. All methods are thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """Return the bytes of all tenants."""
        return self._taken.total()

    def take(self, tenant: str, num_bytes: int) -> None:
        """Count bytes of a tenant. On a server without API keys, all of it may be one tenant's.

        Raises StorageFullError if too few are free, or if the others are for other keys.
        """
        with self._lock:
            free = self._max_bytes - self._taken.total() - num_bytes
            own = self._taken[tenant] + num_bytes if tenant else 0
            if free < own // _KEPT_PART:
                others = " and of other keys" if tenant else ""
                raise StorageFullError(
                    f"the stored files take {self._taken[tenant]:,} bytes{others}, and server.files_mb allows "
                    f"{self._max_bytes >> 20:,} MiB; delete files, or raise that"
                )
            self._taken[tenant] += num_bytes

    def add(self, tenant: str, num_bytes: int) -> None:
        """Count bytes that exist already; a negative number gives bytes back."""
        with self._lock:
            self._taken[tenant] += num_bytes
