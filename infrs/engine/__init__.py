"""The engine: one session, one slab, one thread, one step at a time."""
