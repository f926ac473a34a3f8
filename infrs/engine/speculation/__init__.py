"""Propose draft tokens, which the engine verifies several a run: by lookup in the text, or from a draft model."""
