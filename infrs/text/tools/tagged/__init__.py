"""Formats that write each argument between tags, with its value as plain text."""
