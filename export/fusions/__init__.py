"""Optimum extension points that make the fused graph."""
