"""The registry of loaded models of all kinds, their threads, and the bridge to the event loop."""
