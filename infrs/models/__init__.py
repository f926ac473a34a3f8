"""The registry of loaded models: chat and embedding models, their threads, and the bridge to the event loop."""
