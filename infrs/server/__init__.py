"""The HTTP server: Sanic routes over the engine service."""
