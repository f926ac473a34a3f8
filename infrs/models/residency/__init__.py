"""Keep models within a memory budget: which are loaded, which are unloaded, and when."""
