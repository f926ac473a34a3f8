"""The command that adds optional dependencies to this installation of infrs, which is on no package index."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import urlsplit
from urllib.request import url2pathname


def install_command(extras: str) -> str:
    """Return the pip command for comma-separated extras. It names the folder or wheel that infrs was installed from.

    pip records the origin in direct_url.json (PEP 610). Without a record, the command is for a checkout.
    """
    try:
        text = distribution("infrs").read_text("direct_url.json")
    except PackageNotFoundError:
        text = None
    url = json.loads(text)["url"] if text else ""
    origin = url2pathname(urlsplit(url).path) if url.startswith("file:") else "."
    return shlex.join(["pip", "install", f"{origin}[{extras}]"])


def export_extras(arguments: Iterable[str]) -> str:
    """Return the extras that an export of these models or arguments needs. `demo` reads GGUF, as the demo model is."""
    needs_gguf = any(
        text == "--demo" or text.startswith("demo/") or text.lower().endswith(".gguf") for text in arguments
    )
    return "export,demo" if needs_gguf else "export"
