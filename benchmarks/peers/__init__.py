"""infrs against other servers on the same weights; writes docs/benchmarks.md."""
