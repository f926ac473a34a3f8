"""Ollama's API: requests, their conversion to neutral form, presenters, and descriptions of models."""
