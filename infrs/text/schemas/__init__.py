"""Prepare JSON schemas for the grammar compiler."""
