"""Output that the presenters share: server-sent events, bodies, usage, log-probabilities."""
