"""Replacement forwards that make the fused graph through Optimum."""
