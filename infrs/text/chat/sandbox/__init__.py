"""Jinja in a sandbox that charges each operation before it runs."""
