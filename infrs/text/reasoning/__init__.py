"""Reasoning blocks: their tags, and their separation from answers."""
