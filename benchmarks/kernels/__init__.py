"""infrs's own kernels alone."""
