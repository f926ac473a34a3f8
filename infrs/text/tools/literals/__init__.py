"""Formats that write a call as in a programming language: a name and bracketed arguments."""
