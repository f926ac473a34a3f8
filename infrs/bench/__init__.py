"""The yardstick: a load client for OpenAI-compatible servers and a profile of the engine's step."""
