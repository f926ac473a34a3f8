"""`python -m infrs` is `infrs-serve`."""

from infrs.cli.entry import serve

serve()
