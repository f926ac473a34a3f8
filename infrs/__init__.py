"""infrs: an OpenAI-compatible inference server for CPUs."""

__version__ = "0.1.0"
