"""Layers that keep a state of a fixed size: linear attention, short convolutions and state-space models."""
