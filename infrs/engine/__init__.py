"""Continuous batching: plan, run, sample, commit, on one thread."""
