"""`python -m infrs` is `infrs-serve`."""

from infrs.cli import serve

serve()
